"""Picture files of random formats and settings, with the pixels that they show."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.pictures import (
    ORIENTATIONS,
    Pixels,
    grey_profile,
    wide_profile,
)

WIDE, LINEAR = wide_profile(), grey_profile()


def upright(pixels: Pixels, orientation: int | None) -> Pixels:
    return ORIENTATIONS[orientation or 1](pixels)


def as_rgb(grey: NDArray[Any]) -> Pixels:
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def is_like(found: Pixels, wanted: Pixels, tolerance: int) -> bool:
    return found.shape == wanted.shape and bool((np.abs(found.astype(int) - wanted) <= tolerance).all())
