"""The images that a picture can be drawn from."""

from typing import Final, Literal

ImageCondition = Literal["sketch", "layout"]

BACKGROUND: Final = 0  # the label of the layouts for what is no product
