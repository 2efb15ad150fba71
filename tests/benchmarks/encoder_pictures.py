"""Pictures from titles by two text encoders.

    python -m tests.benchmarks.encoder_pictures ENCODER OUTPUT

Needs the environment variable TOYGAN_TOYBRICKS: a folder with `photos/`, Parquet shards with the columns
`part` and `title`. ENCODER is the folder of a multilingual encoder. `toygan train` trains `toybricks-text128`
further with it, for a few steps, which make its text bank and its layout bank: once on the photos, once on
photos whose titles are Chinese where `shop_titles.json` has one. The sheet OUTPUT/encoders.jpg shows photos
of parts, and pictures from their titles in other English words and in Chinese. A grey picture frame says that
the model had no photo with that title, so the shape is a guess. What is done stays in OUTPUT.
"""

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageOps

from tests.benchmarks.encoders import CPU, MODEL, SHOP_TITLES
from toygan.approval.checks import KNOWN_SHAPE_SIMILARITY
from toygan.artifact.load import load_model
from toygan.artifact.model import Model
from toygan.registry.models import resolve
from toygan.seeds import image_seed

IMAGES: Final = 64  # of each training
SHOWN: Final = ("64452", "27152", "30169", "76443", "3565", "86035", "13792", "92912")
SIDE, FRAME, HEADING = 128, 4, 34  # pixels
KNOWN, GUESSED = "#237841", "#B4B4B4"  # colours of the frames

Row = Mapping[str, Any]


def write_chinese(photos: Path, folder: Path, titles: Mapping[str, tuple[str, str]]) -> None:
    """Copies the shards; the title of a part that `titles` has becomes its Chinese one."""
    folder.mkdir(parents=True)
    for file in sorted(photos.glob("*.parquet")):
        table = pq.read_table(file)
        both = zip(table["part"].to_pylist(), table["title"].to_pylist(), strict=True)
        said = [titles[part][1] if part in titles else title for part, title in both]
        place = table.schema.get_field_index("title")
        pq.write_table(table.set_column(place, table.schema.field(place), pa.array(said)), folder / file.name)


def train(photos: Path, output: Path, encoder: Path) -> Model:
    """The bundled text model with another encoder."""
    if not (output / "model").is_dir():
        settings = output.with_suffix(".json")
        settings.write_text(json.dumps({"conditions": {"text_encoder": str(encoder.resolve())}}))
        command = ("train", "--photos", photos, "--init", MODEL, "--config", settings, "--output", output)
        subprocess.run([sys.executable, "-m", "flows.cli", *command, "--max-images", str(IMAGES)], check=True)
    return load_model(resolve(str((output / "model").resolve()), None), CPU)


def products_of(photos: Path) -> Mapping[str, Row]:
    """A photo of the split `train` for each part that is shown."""
    columns = ["part", "category", "colour", "colour_hex", "finish", "split", "photo"]
    found: dict[str, Row] = {}
    for file in sorted(photos.glob("*.parquet")):
        for row in pq.read_table(file, columns=columns).to_pylist():
            if row["part"] in SHOWN and row["split"] == "train":
                found.setdefault(row["part"], row)
    return found


def picture(model: Model, row: Row, title: str, language: str) -> tuple[Image.Image, bool]:
    """A picture from a title, and whether the model knows a photo with this title."""
    product = model.conditions_of(
        category=row["category"],
        title=title,
        description=None,
        language=language,
        colour=row["colour"],
        colour_hex=row["colour_hex"],
        finish=row["finish"],
    )
    batch = model.generate([image_seed("encoders", 0, 0, model.name, "")], [product], 1)
    (similarity,) = batch.layout_similarities
    return Image.fromarray(batch.pixels[0]), similarity is not None and similarity >= KNOWN_SHAPE_SIMILARITY


def framed(tile: Image.Image, colour: str) -> Image.Image:
    inner = SIDE - 2 * FRAME
    return ImageOps.expand(
        tile.convert("RGB").resize((inner, inner), Image.Resampling.LANCZOS), FRAME, colour
    )


def main(encoder: Path, output: Path) -> None:
    if not (folder := os.environ.get("TOYGAN_TOYBRICKS")):
        sys.exit("set TOYGAN_TOYBRICKS to a folder with photos/")
    photos, chinese = Path(folder) / "photos", output / "photos-zh"
    titles = json.loads(SHOP_TITLES.read_text(encoding="utf-8"))
    if not chinese.is_dir():
        write_chinese(photos, chinese, titles)
    bundled = load_model(resolve(MODEL, None), CPU)
    english, both = (train(*each, encoder) for each in ((photos, output / "en"), (chinese, output / "zh")))
    columns = (
        ("bundled encoder\nother words", bundled, 0, "en"),
        ("bundled encoder\nChinese", bundled, 1, "zh"),
        (f"{encoder.name}\nother words", english, 0, "en"),
        (f"{encoder.name}\nChinese", english, 1, "zh"),
        ("Chinese, photos with\nChinese titles", both, 1, "zh"),
    )
    products = products_of(photos)
    sheet = Image.new("RGB", ((len(columns) + 1) * SIDE, HEADING + len(SHOWN) * SIDE), "white")
    draw = ImageDraw.Draw(sheet)
    for number, heading in enumerate(("photo", *(each[0] for each in columns))):
        draw.text((number * SIDE + 4, 4), heading, fill="black")
    for number, part in enumerate(SHOWN):
        top = HEADING + number * SIDE
        sheet.paste(framed(Image.open(io.BytesIO(products[part]["photo"])), "white"), (0, top))
        for column, (heading, model, language_number, language) in enumerate(columns, start=1):
            title = titles[part][language_number]
            tile, is_known = picture(model, products[part], title, language)
            sheet.paste(framed(tile, KNOWN if is_known else GUESSED), (column * SIDE, top))
            print(f"{part} {title!r} by {heading.splitlines()}: {'known' if is_known else 'a guess'}")
    sheet.save(output / "encoders.jpg", quality=88)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
