"""Measures how much of a product shows two colours where the lines of its sketch enclose one area."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.color import rgb2lab
from skimage.measure import label

FEWEST_PIXELS: Final = 8  # of an area; a smaller one is mostly the print of a face
GREY: Final = 10.0  # the chroma in CIELAB below which a colour has no clear hue
# The distance in CIELAB, across the line of one hue, from which a pixel has another colour. Light and shadow
# move colours along that line.
FAR: Final = 16.0


def mixed_colours(picture: NDArray[np.uint8], paper: NDArray[np.bool_]) -> float | None:
    """Returns the share, 0..1, of the product's pixels that have another colour than most of their area.

    `picture` is (R, R, 3) sRGB and is resized to the S pixels of `paper` (S, S), which is False for the lines
    of the product's sketch; the constants fit 128. The areas are those that no paper connects to the border.
    The colour of an area is its median. Returns None if the lines enclose no area.
    """
    height, width = paper.shape
    whole = Image.fromarray(picture)
    small = np.asarray(whole.resize((width, height), Image.Resampling.BOX, reducing_gap=1.0))
    areas: NDArray[np.int64] = label(paper, connectivity=1)  # type: ignore[no-untyped-call]
    outer = np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]])
    enclosed = (areas > 0) & ~np.isin(areas, outer)
    if not enclosed.any():
        return None
    order = np.argsort(areas[enclosed], kind="stable")
    colours = rgb2lab(small[enclosed][order] / 255)[:, 1:]
    starts = np.flatnonzero(np.diff(areas[enclosed][order])) + 1
    others = sum(_others(area) for area in np.split(colours, starts) if len(area) >= FEWEST_PIXELS)
    return round(others / int((enclosed | (areas == 0)).sum()), 4)


def _others(colours: NDArray[np.float64]) -> int:
    """Counts the pixels of an area, (N, 2) a and b of CIELAB, that have another colour than most of them."""
    most = np.median(colours, axis=0)
    chroma = float(np.hypot(*most))
    if chroma < GREY:
        distances = np.hypot(*(colours - most).T)
    else:
        distances = np.abs(colours @ np.array([-most[1], most[0]])) / chroma
    return int((distances > FAR).sum())
