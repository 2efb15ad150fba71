"""Finds the ground in a mask of the product that the measures found: cast shadows and bays.

A shadow is a light grey that changes slowly and reaches the ground without an edge. A bay is white ground
between parts of the product, which is open at one side. So both are what a flood from the ground reaches. It
ends at the product's colour or edge.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import label

from toygan.images import DARK

_REDUCED: Final = 2  # pieces are found in masks that are reduced by this factor, which is much faster
_DARKEST: Final = 110  # a pixel whose brightest channel (0..255) is below this shows the product
_COLOURED: Final = 40  # a pixel with more chroma shows the product; a shadow takes some of its colour
_EDGE: Final = 36  # at an edge, the values (0..255) of 3 x 3 pixels differ by more than this
_LOWER_PART: Final = 0.5  # shadows are sought only beside this lower share of the product's height
_GREY: Final = 20  # grey parts of a product have at most this chroma
# With a larger share of grey above the lower part, a product has grey parts below, too: shadows stay.
_GREY_ABOVE: Final = 0.1
_WHITE: Final = 246  # a bay has no darker channel
_FAINT_EDGE: Final = 4  # at the outline of a white part, the values of 3 x 3 pixels differ by more than this
_MOST: Final = 0.2  # if more than this share of the mask seems to be ground, it is a grey product instead
# A piece that the flood cuts off is shadow, too, if it is smaller than this share of the mask.
_LEAST_PIECE: Final = 0.01


def ground_inside(
    darkest: NDArray[np.uint8], brightest: NDArray[np.uint8], core: NDArray[np.bool_], *, with_bays: bool
) -> NDArray[np.bool_]:
    """Returns the pixels of the mask `core` that show the ground: (H, W) bool, as `core`.

    `darkest` and `brightest` hold the darkest and brightest channel of each pixel. Without `with_bays` the
    ground is the shadows only.
    """
    rows, columns = np.flatnonzero(core.any(axis=1)), np.flatnonzero(core.any(axis=0))
    box = np.s_[
        max(0, int(rows[0]) - _REDUCED) : int(rows[-1]) + 1 + _REDUCED,
        max(0, int(columns[0]) - _REDUCED) : int(columns[-1]) + 1 + _REDUCED,
    ]
    low, high = (
        np.asarray(Image.fromarray(each[box]).reduce(_REDUCED)).astype(np.int16)
        for each in (darkest, brightest)
    )
    inside = reduced(core[box])
    is_grey = (high - low <= _COLOURED) & (high >= _DARKEST)
    steps = _around(np.maximum, low) - _around(np.minimum, low)
    middle = int(_LOWER_PART * len(inside))
    is_grey_part = inside & (high - low <= _GREY) & (high >= _DARKEST) & (high < DARK)
    if is_grey_part[:middle].sum() > _GREY_ABOVE * inside[:middle].sum():
        middle = len(inside)
    is_grey[:middle] = False
    is_open = ~inside | (is_grey & (steps <= _EDGE))
    if with_bays:
        is_open |= (low >= _WHITE) & (steps <= _FAINT_EDGE)
    parts = label(is_open, connectivity=1)  # type: ignore[no-untyped-call]
    reached = np.zeros(parts.max() + 1, dtype=bool)
    reached[parts[~inside]] = True
    flooded = reached[parts] & is_open
    # The flood takes smooth pixels only, so it ends a pixel before the product's edge.
    flooded |= is_grey & _around(np.maximum, flooded)
    pieces = label(inside & ~flooded, connectivity=2)  # type: ignore[no-untyped-call]
    sizes = np.bincount(pieces.ravel())
    is_cut_off = sizes < _LEAST_PIECE * inside.sum()
    is_cut_off[0] = False
    ground = np.zeros_like(core)
    ground[box] = core[box] & enlarged(flooded | is_cut_off[pieces], core[box].shape)
    return ground if ground.sum() <= _MOST * core.sum() else np.zeros_like(core)


def reduced(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns a mask of half the size: whether any pixel of each 2 x 2 block is in the mask (H, W)."""
    height, width = mask.shape
    even = np.pad(mask, ((0, height % 2), (0, width % 2)))
    return np.asarray(even[::2, ::2] | even[1::2, ::2] | even[::2, 1::2] | even[1::2, 1::2])


def enlarged(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Undoes `reduced`: each pixel becomes a block. `shape` is (H, W)."""
    wide = mask.repeat(_REDUCED, axis=0).repeat(_REDUCED, axis=1)
    return np.asarray(wide[: shape[0], : shape[1]])


def _around(choose: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
    """Reduces the 3 x 3 pixels around each pixel of (H, W) by np.maximum or np.minimum."""
    wide = np.pad(values, 1, mode="edge")
    rows = choose(choose(wide[:-2], wide[1:-1]), wide[2:])
    return np.asarray(choose(choose(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:]))
