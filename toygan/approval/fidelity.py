"""Checks that a studio picture shows what the snapshot shows: the same structure, no new and no lost parts.

Structure is compared by the local correlation of brightness, at two scales. The measure consists of the
contrast and structure terms of SSIM (Wang et al. 2004, eqs. 9 and 10), without the term of brightness. The
mean of each neighbourhood is removed before, so another light changes the measure little.

A part that the mask lacks is found by its colour: histogram backprojection, Swain and Ballard 1991.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import (
    binary_dilation,
    binary_erosion,
    binary_opening,
    binary_propagation,
    gaussian_filter,
    maximum_filter,
    minimum_filter,
)

from toygan.approval.checks import Reason
from toygan.approval.extremes import brightest_channel, darkest_channel
from toygan.images import BRIGHTNESS, COLOURED, DARK

SIDES: Final = (256, 128)  # the two scales, in pixels a side
SPREAD: Final = 2.5  # standard deviation of a neighbourhood in pixels
NOISE: Final = 3.0  # in brightness levels of 0..255; structure with less contrast than this does not count
# width in pixels of the strip along the mask's edge that is left out, because the ground shows there
EDGE: Final = 3
# Pixels within this distance of the mask (in pixels of the larger scale) may be dark: they are no new parts.
AROUND: Final = 6
# At its edge, a part differs from the ground by more than this, 0..255, within SHARP_SIDE pixels of the
# larger scale. The darkest shadows do, too: 2.5 % of 237 studio photos have more than NEW_PARTS_MAX.
SHARP: Final = 64
SHARP_SIDE: Final = 5
COLOUR_CELLS: Final = 16  # number of cells of each channel in histograms of colours
# A lost part has colours that are this many times as frequent in the product as around it. At 6, more
# snapshots with good masks are found.
OWN_COLOUR: Final = 8.0

STRUCTURE_MIN: Final = 0.5
NEW_PARTS_MAX: Final = 0.02
LOST_PARTS_MAX: Final = 0.01


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """Measures how well a picture agrees with its snapshot."""

    # -1..1, the agreement at the scale where it is smaller; 1 for a product without any structure
    structure: float
    # pixels away from the product that show something with sharp edges, divided by the product's pixels
    new_parts: float
    # pixels of the snapshot beside the mask that have the product's colours, divided by the product's pixels
    lost_parts: float

    @property
    def agrees(self) -> bool:
        """Whether the picture shows the product of the snapshot."""
        return (
            self.structure >= STRUCTURE_MIN
            and self.new_parts <= NEW_PARTS_MAX
            and self.lost_parts <= LOST_PARTS_MAX
        )


def compare(picture: NDArray[np.uint8], framed: NDArray[np.uint8]) -> Fidelity:
    """Compares a picture (R, R, 3) with its framed snapshot (R, R, 4); the last channel is the mask."""
    pairs = [(_reduced(picture, side), _reduced(framed, side)) for side in SIDES]
    structures = [_structure(*pair) for pair in pairs]
    small, seen = pairs[0]
    mask = seen[..., 3] > 127
    new, lost = _new_parts(small, mask), _lost_parts(seen[..., :3], mask)
    new_parts, lost_parts = (round(float(parts.sum() / max(1, mask.sum())), 4) for parts in (new, lost))
    return Fidelity(structure=round(min(structures), 4), new_parts=new_parts, lost_parts=lost_parts)


def _new_parts(picture: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns the dark or coloured regions away from the mask that have a sharp edge.

    The product's soft shadow may be dark, and has the product's colour, but it has no sharp edge.
    """
    away = ~binary_dilation(mask, iterations=AROUND)
    brightest, darkest = brightest_channel(picture), darkest_channel(picture)
    shown = away & ((brightest < DARK) | (brightest - darkest > COLOURED))
    contrast = maximum_filter(darkest, SHARP_SIDE) - minimum_filter(darkest, SHARP_SIDE)
    parts: NDArray[np.bool_] = binary_propagation(shown & (contrast > SHARP), mask=shown)
    return parts


def _lost_parts(snapshot: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns the regions that touch the mask and have colours of the product that are rare around it."""
    inside, outside = binary_erosion(mask, iterations=EDGE), ~binary_dilation(mask, iterations=EDGE - 1)
    red, green, blue = np.moveaxis(snapshot.astype(np.int64) * COLOUR_CELLS // 256, -1, 0)
    cells = (red * COLOUR_CELLS + green) * COLOUR_CELLS + blue

    def frequency(where: NDArray[np.bool_]) -> NDArray[np.float32]:
        counts = np.bincount(cells[where], minlength=COLOUR_CELLS**3).reshape((COLOUR_CELLS,) * 3)
        smooth: NDArray[np.float32] = gaussian_filter(counts.astype(np.float32), 1.0)
        return smooth / np.float32(max(1, where.sum()))

    # The small number stands for a colour that is nowhere around the product.
    ratio = frequency(inside) / (frequency(outside) + np.float32(1e-5))
    alike = binary_opening(outside & (ratio.ravel()[cells] > OWN_COLOUR), np.ones((3, 3)))
    beside = alike & binary_dilation(mask, iterations=EDGE + 2)
    parts: NDArray[np.bool_] = binary_propagation(beside, np.ones((3, 3)), mask=alike)
    return parts


def check_snapshot(
    failed: Sequence[Reason], picture: NDArray[np.uint8], framed: NDArray[np.uint8]
) -> tuple[Reason, ...]:
    """Returns the reasons against a picture that was made from a framed snapshot.

    `failed` are the reasons that `check` found, see `with_snapshot`.
    """
    return with_snapshot(failed, agrees=compare(picture, framed).agrees)


def with_snapshot(failed: Sequence[Reason], *, agrees: bool) -> tuple[Reason, ...]:
    """Returns the reasons against a picture, given those of `check` and whether it agrees with its snapshot.

    The reason of an unknown colour is dropped, because the snapshot shows the product's colour.
    """
    kept = [reason for reason in failed if reason != "colour_unknown"]
    return (*kept,) if agrees else (*kept, "differs_from_snapshot")


def _structure(picture: NDArray[np.float32], framed: NDArray[np.float32]) -> float:
    inside = binary_erosion(framed[..., 3] > 127, iterations=EDGE)
    if not inside.any():
        return 0.0
    weights = np.array(BRIGHTNESS, dtype=np.float32)
    made, seen = picture[..., :3] @ weights, framed[..., :3] @ weights
    # The averages of a neighbourhood include only pixels inside the product, not the ground.
    amount = _smooth(inside.astype(np.float32)).clip(1e-3)

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        smooth: NDArray[np.float32] = _smooth(values * inside) / amount
        return smooth

    made_mean, seen_mean = mean(made), mean(seen)
    made_square = (mean(made * made) - made_mean**2).clip(0)
    seen_square = (mean(seen * seen) - seen_mean**2).clip(0)
    both = mean(made * seen) - made_mean * seen_mean
    agreement = both / (np.sqrt(made_square * seen_square) + NOISE**2 / 4)
    strength = np.sqrt(np.maximum(made_square, seen_square)) * inside
    strength = strength * (strength > NOISE)
    total = float(strength.sum())
    return float((agreement * strength).sum()) / total if total else 1.0


def _smooth(values: NDArray[np.float32]) -> NDArray[np.float32]:
    smooth: NDArray[np.float32] = gaussian_filter(values, SPREAD, mode="constant")
    return smooth


def _reduced(picture: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """Averages (R, R, C) uint8 to about `side` pixels: (S, S, C) float32."""
    factor = max(1, picture.shape[0] // side)
    size = picture.shape[0] // factor
    cells = picture[: size * factor, : size * factor]
    # one side after the other, because numpy takes four times as long for both at once
    rows = cells.reshape(size, factor, -1).sum(axis=1, dtype=np.uint32)
    sums = rows.reshape(size, size, factor, -1).sum(axis=2, dtype=np.uint32)
    reduced: NDArray[np.float32] = sums.astype(np.float32) / np.float32(factor**2)
    return reduced
