"""The README's pictures of what one condition does while the rest stays.

    python -m tests.benchmarks.sweeps --model DIR --photos URI --output FILE.jpg

Three blocks of rows, by a model that reads category, colour and text, each picture generated once:

- truncation from 0, the typical picture, to 1: three products, in the latents of each
- one product in eight colours: three products, in the latents of each
- one latent across categories: in one colour, without any text, two latents

The products are of the split `val`; they were chosen (one main colour), their latents were not.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
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
TRUNCATIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
COLOURS = {
    **{"red": "#B40000", "orange": "#D67923", "yellow": "#FAC80A", "green": "#00852B"},
    **{"azure": "#469BC3", "blue": "#1E5AA8", "lilac": "#441A91", "grey": "#646464"},
}
PRODUCTS = ("car-car-1-212-0-4-0", "headgear-86035-484", "plant-2417-70")
LATENTS = ("the first latent", "the second latent")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The conditions of one picture."""

    label: str
    product: ProductConditions
    latents: str  # whose
    truncation: float | None = None  # None: the model's


def rows_of(products: dict[str, ProductConditions], categories: Sequence[str]) -> list[list[Cell]]:
    """The sheet, top to bottom."""
    truncated = [
        [
            Cell(label=f"truncation {each:g}", product=product, latents=sku, truncation=each)
            for each in TRUNCATIONS
        ]
        for sku, product in products.items()
    ]
    coloured = [
        [
            Cell(label=name, product=replace(product, colour_hex=colour_hex), latents=sku)
            for name, colour_hex in COLOURS.items()
        ]
        for sku, product in products.items()
    ]
    across = [
        [
            Cell(
                label=category,
                product=ProductConditions(category=category, colour_hex=COLOURS["red"]),
                latents=latents,
            )
            for category in categories
        ]
        for latents in LATENTS
    ]
    return [*truncated, *coloured, *across]


def draw_cell(model: Model, cell: Cell) -> Image.Image:
    if cell.truncation is not None:
        model = replace(model, truncation=cell.truncation)
    seed = image_seed(f"sweeps {SEED} {cell.latents}", 0, 0, model.name, "")
    return Image.fromarray(model.generate([seed], [cell.product], 1).pixels[0])


def sheet(model: Model, rows: Sequence[Sequence[Cell]]) -> Image.Image:
    size = (max(map(len, rows)) * SHOWN_SIDE, len(rows) * (SHOWN_SIDE + LABEL_HEIGHT))
    result = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(result)
    for number, row in enumerate(rows):
        top = number * (SHOWN_SIDE + LABEL_HEIGHT)
        for column, cell in enumerate(row):
            picture = draw_cell(model, cell).resize((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BICUBIC)
            draw.text((column * SHOWN_SIDE + 2, top + 2), cell.label, fill="black")
            result.paste(picture, (column * SHOWN_SIDE, top + LABEL_HEIGHT))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.sweeps", description="Pictures between which one condition changes."
    )
    parser.add_argument("--model", required=True, type=Path, metavar="DIR")
    parser.add_argument("--photos", required=True, help="as of `toygan train`")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE")
    options = parser.parse_args()
    model = load_model(resolve(str(options.model.resolve()), None), torch.device("cpu"))
    photos = photos_of(model, options.photos, split="val", keep_sku=PRODUCTS.__contains__)
    # Of a product with several photos the last one counts.
    products = {sku: photos.product(row) for row, sku in enumerate(photos.skus)}
    sheet(model, rows_of(products, model.categories)).save(options.output, "JPEG", quality=90)


if __name__ == "__main__":
    main()
