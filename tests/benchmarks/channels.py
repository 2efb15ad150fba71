"""Exports of photos of 512 pixels to every channel, checked by the tests' checker.

    python -m tests.benchmarks.channels --photos FOLDER [--pictures 300] [--keep FOLDER]

FOLDER holds *.parquet with the columns sku, category, title, colour, photo and layout. Every second product
is exported with its layout, as products of the layout model are, the others by what the measures find.
"""

import argparse
import io
import os
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from tests.toygan.channels.checker import violations
from tests.toygan.channels.shop import Article, put_shop
from toygan.channels.export import ExportRequest, export
from toygan.channels.rules import channel_names
from toygan.storage.local import LocalStore


def read_articles(folder: Path, count: int) -> list[Article]:
    """The first photos of the categories in turn."""
    articles = []
    for file in sorted(folder.glob("*.parquet")):
        columns = ["sku", "category", "title", "colour", "photo", "layout"]
        for row in pq.read_table(file, columns=columns).to_pylist():
            photo, layout = (Image.open(io.BytesIO(row[name])) for name in ("photo", "layout"))
            articles.append(
                Article(
                    sku=row["sku"],
                    category=row["category"],
                    title=row["title"],
                    colour=row["colour"],
                    pixels=np.asarray(photo.convert("RGB")),
                    layout=np.asarray(layout) if len(articles) % 2 else None,
                )
            )
    step = max(1, len(articles) // count)
    by_sku = {article.sku: article for article in articles[::step]}
    return list(by_sku.values())[:count]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--channel", action="append")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    os.environ.setdefault("TOYGAN_AIGC_PRODUCER", "Benchmark")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        store = LocalStore(folder / "store")
        put_shop(store, read_articles(options.photos, options.pictures))
        for name in options.channel or channel_names():
            request = ExportRequest(channel=name, output=store.uri, to=str(folder / name))
            began, before = time.monotonic(), time.process_time()
            summary = export(request)
            cpu_s, wall_s = time.process_time() - before, time.monotonic() - began
            files = len(list((folder / name / "pictures").rglob("*.*")))
            again = export(request)
            found = violations(name, folder / name)
            print(
                f"{name}: {summary.live} pictures, {summary.exported} exported as {files} files, "
                f"{summary.live / cpu_s:.1f} pictures and {files / cpu_s:.1f} files a CPU second, "
                f"{wall_s:.0f} s; left out {dict(summary.left_out)}; second export made {again.made}; "
                f"{len(found)} violations",
                flush=True,
            )
            kinds = Counter(line.split(": ", 1)[1].split(" ", 4)[0:4].__str__() for line in found)
            for kind, number in kinds.most_common(5):
                print("   ", number, kind)
            for line in found[:5]:
                print("   ", line)


if __name__ == "__main__":
    main()
