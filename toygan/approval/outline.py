"""Measures how much of a product's outline a picture shows. A white product can vanish on white ground."""

from functools import reduce
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion

from toygan.approval.extremes import brightest_channel

AROUND: Final = 2  # pixels of the shape on each side of the outline in which a step of brightness may lie
LEAST_STEP: Final = 8  # of 255, in any channel; a soft shadow changes less over so few pixels


def outline_seen(picture: NDArray[np.uint8], shape: NDArray[np.bool_]) -> float | None:
    """Returns the share, 0..1, of the outline of `shape` (S, S) at which `picture` (R, R, 3) shows a step.

    The picture is resized to S pixels; the constants fit 128. The outline along the border of the picture
    does not count. Returns None if there is no other outline.
    """
    outline = shape & ~binary_erosion(shape, border_value=True)
    if not outline.any():
        return None
    height, width = shape.shape
    whole = Image.fromarray(picture)
    small = np.asarray(whole.resize((width, height), Image.Resampling.BOX, reducing_gap=1.0))
    # The largest minus the smallest value around each pixel. The filters of scipy take longer.
    step = _around(small, np.maximum) - _around(small, np.minimum)
    return round(float((brightest_channel(step) >= LEAST_STEP)[outline].mean()), 4)


def _around(picture: NDArray[np.uint8], extreme: np.ufunc) -> NDArray[np.uint8]:
    """Returns the largest (np.maximum) or smallest (np.minimum) value in the square around each pixel."""
    for axis in (0, 1):
        along = np.moveaxis(picture, axis, 0)
        padded = np.pad(along, ((AROUND, AROUND), (0, 0), (0, 0)), mode="edge")
        shifted = (padded[start : start + len(along)] for start in range(2 * AROUND + 1))
        picture = np.moveaxis(reduce(extreme, shifted), 0, axis)
    return picture
