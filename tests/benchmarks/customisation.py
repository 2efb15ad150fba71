"""The README's pictures of customisation and try-on, by a model that draws from layouts.

    python -m tests.benchmarks.customisation --model DIR --photos URI --output FILE.jpg

The layouts are of products of the split `val`, edited as the README shows. A product keeps its latents and
its other conditions, so what differs between its pictures is the layout alone. The products were chosen (one
main colour; figures that look the same way), their pictures were not: each is generated once.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from toygan.artifact.load import load_model
from toygan.artifact.model import Model
from toygan.calibration.photos import photos_of
from toygan.conditions.product import ProductConditions
from toygan.registry.models import resolve
from toygan.seeds import image_seed

SEED = 0
SHOWN_SIDE = 96  # pixels of a picture on the sheet
LABEL_HEIGHT = 16
GAP = 12
# How the labels of the photos' data are shown; the numbers are theirs.
SHOWN = (
    *("#FFFFFF", "#1B2A34", "#646464", "#B4B4B4", "#E8E8E8", "#C91A09", "#FE8A18"),
    *("#F2CD37", "#237841", "#0055BF", "#A05EB5", "#7A4B2A", "#CFE8F5", "#8C8C9C"),
)
RED, ORANGE, YELLOW, GREEN, BLUE = 5, 6, 7, 8, 9
# What becomes of red: its label, and the main colour.
RECOLOURED = (
    ("red", RED, "#B40000"),
    ("red to blue", BLUE, "#1E5AA8"),
    ("red to yellow", YELLOW, "#FAC80A"),
    ("red to green", GREEN, "#00852B"),
)
CAR, HAIR = "car-car-1-4-15-15-15", "headgear-21269-4"
# A figure, another one, what is taken from that: a torso, a hat.
DRESSED = (
    ("minifigure-fig-973-3626bp3e-32602-71-25-70-14", "minifigure-fig-973-3626b-59362-322-22-226-92", BLUE),
    (
        "minifigure-fig-973-3626cp05-87991-14-4-19-14",
        "minifigure-fig-973p0f-3626bpw7-15424-272-85-25-14",
        ORANGE,
    ),
)

Layout = NDArray[np.uint8]


def recolour(layout: Layout, old: int, new: int) -> Layout:
    """The layout with one class in another colour."""
    return np.where(layout == old, np.uint8(new), layout)


def dress(figure: Layout, other: Layout, label: int) -> Layout:
    """The figure with all that has this label in the other layout."""
    return np.where(other == label, other, figure)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A layout from which a picture is generated."""

    label: str
    product: ProductConditions
    latents: str  # the sku whose latents the picture has


def rows_of(products: dict[str, ProductConditions]) -> list[list[Cell]]:
    """The sheet: a product in the colours of `RECOLOURED` a row, and a figure dressed."""
    rows = []
    for sku in (CAR, HAIR):
        layout = _layout(products[sku])
        rows.append(
            [
                Cell(
                    label=label,
                    product=replace(products[sku], colour_hex=colour_hex, image=recolour(layout, RED, new)),
                    latents=sku,
                )
                for label, new, colour_hex in RECOLOURED
            ]
        )
    for sku, other, label in DRESSED:
        figure, giver = products[sku], products[other]
        dressed = replace(figure, image=dress(_layout(figure), _layout(giver), label))
        rows.append(
            [
                Cell(label="a figure", product=figure, latents=sku),
                Cell(label="another", product=giver, latents=other),
                Cell(label="the first, dressed", product=dressed, latents=sku),
            ]
        )
    return rows


def _layout(product: ProductConditions) -> Layout:
    assert product.image is not None
    return product.image


def show_layout(layout: Layout) -> Image.Image:
    palette = np.array([bytes.fromhex(each[1:]) for each in SHOWN]).view(np.uint8).reshape(-1, 3)
    return Image.fromarray(palette[layout])


def sheet(model: Model, rows: list[list[Cell]]) -> Image.Image:
    """One row for each product: each layout, and to its right its picture."""
    pair = 2 * SHOWN_SIDE + GAP
    most = max(len(row) for row in rows)
    result = Image.new("RGB", (most * pair, len(rows) * (SHOWN_SIDE + LABEL_HEIGHT)), "white")
    draw = ImageDraw.Draw(result)
    for number, row in enumerate(rows):
        seeds = [image_seed(f"customisation {SEED} {each.latents}", 0, 0, model.name, "") for each in row]
        generated = model.generate(seeds, [each.product for each in row], len(row))
        top = number * (SHOWN_SIDE + LABEL_HEIGHT)
        for column, each in enumerate(row):
            left = column * pair
            draw.text((left + 2, top + 2), each.label, fill="black")
            for picture, x, filter_ in (
                (show_layout(_layout(each.product)), left, Image.Resampling.NEAREST),
                (Image.fromarray(generated.pixels[column]), left + SHOWN_SIDE, Image.Resampling.BICUBIC),
            ):
                shown = picture.resize((SHOWN_SIDE, SHOWN_SIDE), filter_)
                result.paste(shown, (x, top + LABEL_HEIGHT))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.customisation",
        description="Edited layouts and the pictures generated from them.",
    )
    parser.add_argument("--model", required=True, type=Path, metavar="DIR")
    parser.add_argument("--photos", required=True, help="as of `toygan train`")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE")
    options = parser.parse_args()
    model = load_model(resolve(str(options.model.resolve()), None), torch.device("cpu"))
    wanted = {CAR, HAIR, *(sku for figure, other, _ in DRESSED for sku in (figure, other))}
    photos = photos_of(model, options.photos, split="val", keep_sku=wanted.__contains__)
    # Of a product with several photos the last one counts.
    products = {sku: photos.product(row) for row, sku in enumerate(photos.skus)}
    sheet(model, rows_of(products)).save(options.output, "JPEG", quality=90)


if __name__ == "__main__":
    main()
