"""The conditions of a product, and their encoding for a generator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from toygan.conditions.category import encode_categories
from toygan.conditions.colour import encode_accents, encode_colours
from toygan.conditions.condition_types import ImageCondition
from toygan.conditions.image import Drawing, encode_images
from toygan.errors import BadInput

if TYPE_CHECKING:
    from toygan.conditions.text import TextEncoder


@dataclass(frozen=True, kw_only=True)
class ProductConditions:
    """The conditions of one picture. A model uses only those conditions that it was trained with."""

    category: str
    colour_hex: str | None = None
    text: str | None = None  # see toygan.conditions.text_config.product_text
    shape_text: str | None = None  # see toygan.conditions.text_config.TextFields
    accent_hexes: Sequence[str] = ()  # the other colours, see toygan.conditions.text_config.TextFields
    image: NDArray[np.uint8] | None = None  # see below
    """A sketch or a layout (R, R), a snapshot as it was taken (H, W, 3), or a framed snapshot (R, R, 4)."""
    drawing: Drawing | None = None  # layout and sketch of a product that is generated from both

    def with_images(self, images: Mapping[ImageCondition, NDArray[np.uint8]]) -> "ProductConditions":
        """Returns the conditions with the image of its type, or with layout and sketch."""
        if len(images) > 1:
            return replace(self, drawing=Drawing(images["layout"], images["sketch"]))
        return replace(self, image=next(iter(images.values()), None))


def encode_conditions(
    products: Sequence[ProductConditions],
    *,
    categories: Sequence[str],
    text_encoder: "TextEncoder | None" = None,
    image_condition: ImageCondition | None = None,
    accent_colours: int = 0,
) -> dict[str, Tensor]:
    """Encodes the products as tensors on the CPU, one row a product; see `toygan.models.layers.Conditions`.

    Raises BadInput for a category that is not among `categories`. With an `image_condition`, it also raises
    BadInput for a product without an image.
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
            raise BadInput(f"{len(products) - len(images)} products have no {image_condition}")
        conditions[image_condition] = encode_images(image_condition, images)
    return conditions
