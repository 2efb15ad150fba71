"""Finds the pieces of a cast shadow in a mask of the product that the measures found.

A shadow is a light grey that changes slowly and reaches the ground without an edge. So the shadow is what a
flood from the ground reaches through such pixels. It ends at the product's colour or edge.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter
from skimage.measure import label

_REDUCED: Final = 2  # shadows are smooth, so the flood runs in a picture reduced by this factor
_DARKEST: Final = 110  # a pixel whose brightest channel (0..255) is below this shows the product
_COLOURED: Final = 40  # a pixel with more chroma shows the product; a shadow takes some of its colour
_EDGE: Final = 36  # at an edge, the values (0..255) of 3 x 3 pixels differ by more than this
_LOWER_PART: Final = 0.5  # shadows are sought only beside this lower share of the product's height
_MOST: Final = 0.2  # if more than this share of the mask seems to be shadow, it is a grey product instead
# A piece that the flood cuts off is shadow, too, if it is smaller than this share of the mask's lower part.
_LEAST_PIECE: Final = 0.02


def cast_shadow(image: Image.Image, core: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns the pixels of the mask `core` (H, W) that show a shadow. `image` is RGB, of the same size."""
    rows = np.flatnonzero(core.any(axis=1))
    top = int(rows[0] + _LOWER_PART * (rows[-1] + 1 - rows[0]))
    inside = np.asarray(Image.fromarray(core[top:]).convert("L").reduce(_REDUCED)) > 0
    is_grey, is_smooth = _look(image.crop((0, top, *image.size)).reduce(_REDUCED))
    is_open = ~inside | (is_grey & is_smooth)
    parts = label(is_open, connectivity=1)  # type: ignore[no-untyped-call]
    reached = np.zeros(parts.max() + 1, dtype=bool)
    reached[parts[~inside]] = True
    flooded = reached[parts] & is_open
    # The flood takes smooth pixels only, so it ends a pixel before the product's edge.
    beside = Image.fromarray(flooded).convert("L").filter(ImageFilter.MaxFilter(3))
    flooded |= is_grey & (np.asarray(beside) > 0)
    pieces = label(inside & ~flooded, connectivity=2)  # type: ignore[no-untyped-call]
    sizes = np.bincount(pieces.ravel())
    is_cut_off = sizes < _LEAST_PIECE * inside.sum()
    is_cut_off[0] = False
    found = flooded | is_cut_off[pieces]
    shadow = np.zeros_like(core)
    wide = found.repeat(_REDUCED, axis=0).repeat(_REDUCED, axis=1)
    shadow[top:] = core[top:] & wide[: core.shape[0] - top, : core.shape[1]]
    return shadow if shadow.sum() <= _MOST * core.sum() else np.zeros_like(core)


def _look(image: Image.Image) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Says for each pixel whether it is grey like a shadow, and whether it is off all edges: (H, W) bool."""
    red, green, blue = image.split()
    brightest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
    highest, lowest = darkest.filter(ImageFilter.MaxFilter(3)), darkest.filter(ImageFilter.MinFilter(3))
    chroma = np.asarray(ImageChops.subtract(brightest, darkest))
    is_grey = (chroma <= _COLOURED) & (np.asarray(brightest) >= _DARKEST)
    return is_grey, np.asarray(ImageChops.subtract(highest, lowest)) <= _EDGE
