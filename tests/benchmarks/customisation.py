"""The README's picture of customised products and try-on, made by the commands.

    python -m tests.benchmarks.customisation --output FILE.jpg [--store FOLDER]

A catalog of bundled layouts has rows with `variant_of`, `recolour` and `dress_from`; `toygan generate` makes
their pictures with the bundled layout model. The sheet shows each layout beside its picture: the approved
one, or else the candidate for review. The products were chosen, the pictures were not.
"""

import argparse
import csv
import io
import tempfile
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from flows.local import run_generate
from toygan.storage.keys import condition_key
from toygan.storage.local import LocalStore

SHOWN_SIDE = 128  # pixels of a picture on the sheet
LABEL_HEIGHT = 18
GAP = 12
# How the labels of the photos' data are shown; the numbers are theirs.
SHOWN = (
    *("#FFFFFF", "#1B2A34", "#646464", "#B4B4B4", "#E8E8E8", "#C91A09", "#FE8A18"),
    *("#F2CD37", "#237841", "#0055BF", "#A05EB5", "#7A4B2A", "#CFE8F5", "#8C8C9C"),
)
CAR = "car-car-1-226-72-322-71"
FIGURE, OTHER = (
    "minifigure-fig-973-3626cp05-87991-14-4-19-14",
    "minifigure-fig-973-3626b-60747-212-226-2-14",
)
COLUMNS = ("sku", "category", "title", "colour_hex", "layout_uri", "variant_of", "recolour", "dress_from")
CATALOG = (
    ("car", "car", "Car, yellow", "#FAC80A", f"{CAR}.layout.png", "", "", ""),
    ("car-red", "car", "Car, red", "#B40000", "", "car", "yellow=red", ""),
    ("car-green", "car", "Car, green", "#00852B", "", "car", "yellow=green", ""),
    ("car-blue", "car", "Car, blue", "#1E5AA8", "", "car", "yellow=blue, dark grey=black", ""),
    ("figure", "minifigure", "Figure, yellow", "#FAC80A", f"{FIGURE}.layout.png", "", "", ""),
    ("other", "minifigure", "Figure, green", "#00852B", f"{OTHER}.layout.png", "", "", ""),
    ("dressed", "minifigure", "Figure, blue shirt", "#1E5AA8", "", "figure", "", "other=blue"),
    ("hat", "minifigure", "Figure, green hat", "#00852B", "", "figure", "red=blue", "other=green, blue"),
)
ROWS = (("car", "car-red", "car-green", "car-blue"), ("figure", "other", "dressed", "hat"))


def show_layout(layout: NDArray[np.uint8]) -> Image.Image:
    palette = np.array([bytes.fromhex(each[1:]) for each in SHOWN]).view(np.uint8).reshape(-1, 3)
    return Image.fromarray(palette[layout])


def write_catalog(folder: Path) -> Path:
    """Copies the layouts beside the catalog."""
    for name in (CAR, FIGURE, OTHER):
        data = (files("toygan.pretrained") / "conditions" / f"{name}.layout.png").read_bytes()
        (folder / f"{name}.layout.png").write_bytes(data)
    path = folder / "catalog.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *CATALOG])
    return path


def read_pictures(store: LocalStore) -> dict[str, tuple[Image.Image, Image.Image]]:
    """The layout and the picture of each sku: the approved picture, else the one for review."""
    rows = {
        row["sku"]: row
        for part in sorted(Path(store.uri).glob("metadata/run=*/part-*.parquet"))
        for row in pq.read_table(part).to_pylist()
        if row["image_uri"] is not None
    }
    found = {}
    for sku, row in rows.items():
        labels = Image.open(io.BytesIO(store.get(condition_key(dict(row["condition_sha256"])["layout"]))))
        picture = Image.open(io.BytesIO(store.get(row["image_uri"])))
        found[sku] = show_layout(np.asarray(labels)), picture.convert("RGB")
        print(f"{sku}: {row['decision']} {row['reasons']}", flush=True)
    return found


def sheet(pictures: dict[str, tuple[Image.Image, Image.Image]]) -> Image.Image:
    """One row for each product: each layout, and to its right its picture."""
    said = {
        sku: ", ".join(part for part in (recolour, f"dressed from {dress}" if dress else "") if part) or sku
        for sku, *_, recolour, dress in CATALOG
    }
    pair = 2 * SHOWN_SIDE + GAP
    most = max(len(row) for row in ROWS)
    result = Image.new("RGB", (most * pair - GAP, len(ROWS) * (SHOWN_SIDE + LABEL_HEIGHT)), "white")
    draw = ImageDraw.Draw(result)
    for number, row in enumerate(ROWS):
        top = number * (SHOWN_SIDE + LABEL_HEIGHT)
        for column, sku in enumerate(row):
            left = column * pair
            draw.text((left + 2, top + 2), said[sku], fill="black")
            layout, picture = pictures[sku]
            for shown, x, filter_ in (
                (layout, left, Image.Resampling.NEAREST),
                (picture, left + SHOWN_SIDE, Image.Resampling.LANCZOS),
            ):
                result.paste(shown.resize((SHOWN_SIDE, SHOWN_SIDE), filter_), (x, top + LABEL_HEIGHT))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.customisation",
        description="Recoloured and dressed layouts, and the pictures generated from them.",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="FILE")
    parser.add_argument("--store", type=Path, metavar="FOLDER", help="where the pictures stay")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store = options.store or folder / "store"
        print(
            run_generate(
                catalog=str(write_catalog(folder)), columns=(), run_id=None, output=str(store)
            ).text(),
            flush=True,
        )
        sheet(read_pictures(LocalStore(store))).save(options.output, "JPEG", quality=90)


if __name__ == "__main__":
    main()
