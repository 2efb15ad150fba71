"""One label for each closed region of a line drawing.

A network that draws a layout pixel by pixel, each by what is likeliest there, leaves patches where two
labels are about as likely, and of three colours that a tower may have anywhere paints the likeliest one
alone. What a line surrounds is of one colour as a rule, and a colour that is told is somewhere.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label
from skimage.segmentation import expand_labels

from toygan.conditions.kinds import BACKGROUND

PAPER: Final = 0.75  # of white, above which no line is seen; thin ones are blurred when a drawing is shrunk
LINE_WIDTH: Final = 3  # pixels, from a region's border to what still belongs to it
FEWEST_PIXELS: Final = 4  # of a region
SURE: Final = 0.9  # probability
MOST_CONTRADICTING: Final = 0.05  # share of a region's pixels


def settle(
    probabilities: NDArray[np.float32], paper: NDArray[np.float32], told: Sequence[int]
) -> NDArray[np.int64]:
    """The labels (R, R) of (C, R, R) probabilities, on a drawing (R, R) from 0, ink, to 1, white.

    What is ground every pixel says for itself. A region's product pixels take the label that is likeliest on
    their mean; not so where some are sure of another one, as where lines are open, or where they are too few.
    Of the `told` labels one that came nowhere takes as much of the regions as was to be expected of it, first
    those where it is likeliest beside what they have, and leaves every other label a region.
    """
    own = probabilities.argmax(axis=0)
    enclosed = label(paper > PAPER, connectivity=1)  # type: ignore[no-untyped-call]
    regions = expand_labels(enclosed, distance=LINE_WIDTH)  # type: ignore[no-untyped-call]
    is_product = (own != BACKGROUND) & (regions > 0)
    of, shares = regions[is_product], probabilities[:, is_product]
    count = np.bincount(of, minlength=regions.max() + 1)
    sums = np.stack([np.bincount(of, weights=each, minlength=len(count)) for each in shares])
    means = sums / np.maximum(count, 1)
    means[BACKGROUND] = 0
    chosen = means.argmax(axis=0)
    contradicts = (shares.max(axis=0) > SURE) & (own[is_product] != chosen[of])
    contradicting = np.bincount(of, weights=contradicts, minlength=len(count))
    settled = (count >= FEWEST_PIXELS) & (contradicting <= MOST_CONTRADICTING * count)
    unsettled = {*own[is_product & ~settled[regions]].tolist()}
    for wanted in dict.fromkeys(told):
        if wanted != BACKGROUND and wanted not in unsettled and not (settled & (chosen == wanted)).any():
            _give(chosen, wanted, means, np.where(settled, count, 0))
    labels: NDArray[np.int64] = np.where(is_product & settled[regions], chosen[regions], own)
    return labels


def _give(
    chosen: NDArray[np.int64], wanted: int, means: NDArray[np.float64], count: NDArray[np.int64]
) -> None:
    """Changes `chosen`, a label a region of `count` pixels, where `wanted` is likeliest, by `means`."""
    expected = (means[wanted] * count).sum()
    beside = means[wanted] / np.maximum(means[chosen, np.arange(len(chosen))], 1e-9)
    for region in np.argsort(-beside, kind="stable"):
        # More than twice too much is further from what is expected than nothing.
        fits = 0 < count[region] <= 2 * expected
        if fits and ((chosen == chosen[region]) & (count > 0)).sum() > 1:
            expected -= count[region]
            chosen[region] = wanted
