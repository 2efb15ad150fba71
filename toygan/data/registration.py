"""Registers a snapshot with the studio photo of the same product, by scale and shift.

A shop's own snapshot and photo show the product in different sizes and places. To learn from both, the
product's pixels must lie on each other. A rotation is not corrected: a snapshot from another camera angle
shows other parts of the product.
"""

from math import ceil
from typing import Final, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_fill_holes
from skimage.registration import phase_cross_correlation
from torch import Tensor

from toygan.images import COLOURED, DARK

MATCHED_SIDE: Final = 256  # pixels; larger masks are compared at about this size
NEARBY: Final = (0.96, 0.98, 0.99, 1.0, 1.01, 1.02, 1.04)  # factors by which the best scale is varied
PARTS_OF_PIXEL: Final = 4  # shifts are found in steps of 1 / PARTS_OF_PIXEL pixels


class Registration(NamedTuple):
    """Where a snapshot lies in the square of the photo."""

    scale: float  # pixels of the square for each pixel of the snapshot
    top: float  # the place of the snapshot's upper edge in the square, in pixels of the square
    left: float
    overlap: float  # 0..1: intersection over union of both masks


def product_on_white(photo: Tensor) -> Tensor:
    """Finds the product in a studio photo (3, R, R) uint8 on white ground: (R, R) bool.

    Product pixels are dark or coloured, or enclosed by such pixels. So a pale product is found in part.
    """
    brightest, darkest = photo.amax(dim=0).int(), photo.amin(dim=0).int()
    distinct = (brightest < DARK) | (brightest - darkest > COLOURED)
    return torch.from_numpy(binary_fill_holes(distinct.numpy()))


def register(mask: NDArray[np.bool_], wanted: Tensor) -> Registration | None:
    """Finds the scale and the shift that lay `mask` (H, W) best on `wanted` (R, R) bool.

    The first scales are those of the boxes and areas of both masks; the best is then varied. The shift for a
    scale is found by the correlation of the masks (`skimage.registration`). Returns None for an empty mask.
    """
    if not mask.any() or not wanted.any():
        return None
    factor = max(1, wanted.shape[0] // MATCHED_SIDE)
    small = F.avg_pool2d(wanted[None, None].float(), factor)[0, 0].numpy()
    less = max(1, max(mask.shape) // (2 * MATCHED_SIDE))
    pixels = _reduced(255 * mask[..., None].astype(np.uint8), less)
    shown = pixels[..., 0] > 127
    if not shown.any() or not (small > 0.5).any():
        return None
    scales = [theirs / ours for ours, theirs in zip(_extent(shown), _extent(small > 0.5), strict=True)]
    scales.append(float(np.sqrt(small.sum() / shown.sum())))
    best = max((_at_scale(pixels, small, each) for each in scales), key=_by_overlap)
    best = max((_at_scale(pixels, small, best.scale * each) for each in NEARBY), key=_by_overlap)
    return Registration(best.scale * factor / less, best.top * factor, best.left * factor, best.overlap)


def moved(picture: NDArray[np.uint8], place: Registration, side: int) -> NDArray[np.uint8]:
    """Resamples a snapshot (H, W, C) uint8 for the square of the photo: (side, side, C) uint8.

    The last channel is the mask. Beyond the snapshot its border pixels are repeated, and the mask is 0.
    """
    less = max(1, int(1 / (2 * place.scale)))  # a large snapshot would take much memory
    picture, place = _reduced(picture, less), place._replace(scale=place.scale * less)
    length = side / place.scale  # the side of the square in pixels of the snapshot
    starts = [-place.top / place.scale, -place.left / place.scale]
    before = [max(0, ceil(-start)) for start in starts]
    behind = [
        max(0, ceil(start + length - size)) for start, size in zip(starts, picture.shape[:2], strict=True)
    ]
    borders = list(zip(before, behind, strict=True))
    padded = np.pad(picture, [*borders, (0, 0)], mode="edge")
    padded[..., -1] = np.pad(picture[..., -1], borders)
    top, left = (start + added for start, added in zip(starts, before, strict=True))
    box = (left, top, left + length, top + length)
    layers = [
        Image.fromarray(layer).resize((side, side), Image.Resampling.BICUBIC, box=box)
        for layer in np.moveaxis(padded, -1, 0)
    ]
    return np.stack([np.asarray(layer) for layer in layers], axis=-1)


def _reduced(picture: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Averages (H, W, C) over squares of `factor` pixels."""
    if factor == 1:
        return picture
    layers = [Image.fromarray(layer).reduce(factor) for layer in np.moveaxis(picture, -1, 0)]
    return np.stack([np.asarray(layer) for layer in layers], axis=-1)


def _by_overlap(found: Registration) -> float:
    return found.overlap


def _extent(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Returns the height and the width of the box around a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1


def _at_scale(pixels: NDArray[np.uint8], wanted: NDArray[np.float32], scale: float) -> Registration:
    """Returns the best shift of a mask (H, W, 1), 0 or 255, for one scale, in pixels of `wanted` (S, S)."""
    ours, theirs = (
        [float(each.mean()) + 0.5 for each in shown.nonzero()]
        for shown in (pixels[..., 0] > 127, wanted > 0.5)
    )
    first = Registration(scale, theirs[0] - scale * ours[0], theirs[1] - scale * ours[1], 0.0)
    placed = moved(pixels, first, len(wanted))[..., 0] / 255
    shift, _, _ = phase_cross_correlation(  # type: ignore[no-untyped-call]
        wanted, placed, upsample_factor=PARTS_OF_PIXEL, normalization=None
    )
    there = first._replace(top=first.top + float(shift[0]), left=first.left + float(shift[1]))
    covered, shown = moved(pixels, there, len(wanted))[..., 0] > 127, wanted > 0.5
    either = int((covered | shown).sum())
    return there._replace(overlap=int((covered & shown).sum()) / either if either else 0.0)
