"""What is known of a product, as a generator is told it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from toygan.conditions.category import encode_categories
from toygan.conditions.colour import encode_accents, encode_colours
from toygan.conditions.condition_types import ImageCondition
from toygan.conditions.image import encode_images
from toygan.errors import BadInput

if TYPE_CHECKING:
    from toygan.conditions.text import TextEncoder


@dataclass(frozen=True, kw_only=True)
class ProductConditions:
    """The conditions of one picture; a model takes of them what it was made for."""

    category: str
    colour_hex: str | None = None
    text: str | None = None  # see toygan.conditions.text_config.product_text
    shape_text: str | None = None  # see toygan.conditions.text_config.Words
    accent_hexes: Sequence[str] = ()  # beside the main colour, see toygan.conditions.text_config.Words
    image: NDArray[np.uint8] | None = None  # (R, R), as toygan.conditions.image reads sketch or layout


def encode_conditions(
    products: Sequence[ProductConditions],
    *,
    categories: Sequence[str],
    text_encoder: "TextEncoder | None" = None,
    image_condition: ImageCondition | None = None,
    accent_colours: int = 0,
) -> dict[str, Tensor]:
    """One row a product, on the CPU; see `toygan.models.layers.Conditions`.

    Raises BadInput for a category that is not among `categories` and for a product without the image that
    `image_condition` asks for.
    """
    conditions = {
        "category": encode_categories([product.category for product in products], categories),
        "colour": encode_colours([product.colour_hex for product in products]),
    }
    if accent_colours:
        conditions["accents"] = encode_accents([product.accent_hexes for product in products], accent_colours)
    if text_encoder is not None:
        conditions["text"] = text_encoder.encode([product.text for product in products])
    if image_condition is not None:
        images = [product.image for product in products if product.image is not None]
        if len(images) < len(products):
            raise BadInput(f"{len(products) - len(images)} products have no {image_condition} to draw from")
        conditions[image_condition] = encode_images(image_condition, images)
    return conditions
