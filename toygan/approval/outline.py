"""Measures how much of a product's outline a picture shows. A white product can vanish on white ground."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion, maximum_filter, minimum_filter

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
    small = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))
    window = (2 * AROUND + 1, 2 * AROUND + 1, 1)
    step = maximum_filter(small, window).astype(np.int16) - minimum_filter(small, window)
    return round(float((brightest_channel(step) >= LEAST_STEP)[outline].mean()), 4)
