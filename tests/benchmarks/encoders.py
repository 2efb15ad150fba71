"""Which text encoder finds a product's own part by its title.

    python -m tests.benchmarks.encoders FOLDER...

Needs the environment variable TOYGAN_TOYBRICKS: a folder with `photos/`, Parquet shards with the columns
`part` and `title`. Compares the encoder of `toybricks-text128` with those in the folders. For each product of
the split `val` whose part some product of the split `train` has, it looks among the titles of `train`, in the
product's category, for the one with the nearest embedding. Counts how often the nearest title is one of the
product's own part. Titles are without their colours, as that model is given them. These titles of `val` and
`train` are the same word for word. So it also asks with the titles of `shop_titles.json`: 40 of the parts in
other English words and in Chinese, written by hand.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from toygan.artifact.load import load_model
from toygan.artifact.model import Model
from toygan.conditions.text import TextEncoder
from toygan.conditions.text_encoder_files import DEFAULT_TEXT_ENCODER, find_folder
from toygan.registry.models import resolve

CPU: Final = torch.device("cpu")
MODEL: Final = "toybricks-text128"
COLUMNS: Final = ("sku", "category", "part", "title", "colour", "colour_hex", "finish", "split")
QUESTIONS: Final = ("title", "shop_title", "shop_title_zh")
SHOP_TITLES: Final = Path(__file__).with_name("shop_titles.json")

Embeddings = Mapping[str, NDArray[np.float32]]


def read_products(photos: Path) -> pd.DataFrame:
    """The products whose shape is one part, with their titles as the model is given them."""
    tables = [pq.read_table(file, columns=list(COLUMNS)) for file in sorted(photos.glob("*.parquet"))]
    products: pd.DataFrame = pa.concat_tables(tables).to_pandas().drop_duplicates("sku")
    products = products[products.part != products.category]
    model = load_model(resolve(MODEL, None), CPU)
    products["title"] = [_shape_text(model, row) for row in products.to_dict("records")]
    by_hand = json.loads(SHOP_TITLES.read_text(encoding="utf-8"))
    for number, column in enumerate(QUESTIONS[1:]):
        products[column] = [by_hand[part][number] if part in by_hand else None for part in products.part]
    return products


def _shape_text(model: Model, row: Mapping[Any, Any]) -> str:
    words = model.text_config.words(
        row["title"], None, colour=row["colour"], colour_hex=row["colour_hex"], finish=row["finish"]
    )
    return words.shape_text or ""


def embedded(encoder: TextEncoder, texts: Sequence[str]) -> Embeddings:
    distinct = sorted(set(texts))
    return dict(zip(distinct, encoder.embed(distinct).numpy(), strict=True))


def found_first(asked: pd.DataFrame, known: pd.DataFrame, column: str, embeddings: Embeddings) -> float:
    """The share of the rows of `asked` with a text in `column` whose nearest title is of their own part."""
    hits = []
    for row in asked[asked[column].notna()].itertuples():
        rivals = known[known.category == row.category]
        titles = sorted(set(rivals.title))
        nearness = np.stack([embeddings[title] for title in titles]) @ embeddings[getattr(row, column)]
        nearest = titles[int(nearness.argmax())]
        hits.append(row.part in set(rivals[rivals.title == nearest].part))
    return float(np.mean(hits))


def measure(name: str, asked: pd.DataFrame, known: pd.DataFrame, cache: Path) -> str:
    """A row of the table for one encoder."""
    encoder = TextEncoder(name, CPU, cache=cache)
    encoder.embed(["a title that loads the network"])
    texts = [*known.title, *(text for column in QUESTIONS for text in asked[column].dropna())]
    began_s = time.process_time()
    embeddings = embedded(encoder, texts)
    each_ms = 1000 * (time.process_time() - began_s) / len(embeddings)
    size = sum(path.stat().st_size for path in find_folder(name).glob("model*.safetensors")) / 1e6
    found = " | ".join(f"{found_first(asked, known, column, embeddings):.2f}" for column in QUESTIONS)
    return f"| `{Path(name).name}` | {encoder.size} | {size:.0f} | {each_ms:.0f} | {found} |"


def main() -> None:
    if not (folder := os.environ.get("TOYGAN_TOYBRICKS")):
        sys.exit("set TOYGAN_TOYBRICKS to a folder with photos/")
    torch.set_num_threads(1)
    products = read_products(Path(folder) / "photos")
    known = products[products.split == "train"]
    asked = products[(products.split == "val") & products.part.isin(set(known.part))]
    print(f"{len(asked)} products of val, {known.title.nunique()} titles of train\n")
    print("| encoder | numbers | MB | CPU ms a title | same words | other words | Chinese |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory(prefix="toygan-benchmark-") as cache:
        for name in (DEFAULT_TEXT_ENCODER, *sys.argv[1:]):
            print(measure(name, asked, known, Path(cache)), flush=True)


if __name__ == "__main__":
    main()
