"""The types of condition images that a picture can be generated from."""

from typing import Final, Literal

ImageCondition = Literal["sketch", "layout"]

BACKGROUND: Final = 0  # the layout label of pixels without a product
