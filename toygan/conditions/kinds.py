"""The images that a picture can be drawn from."""

from typing import Literal

ImageCondition = Literal["sketch", "layout"]
