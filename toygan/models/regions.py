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

PAPER: Final = 0.9  # of white, below which a line is seen; thin ones are pale when a drawing is shrunk
LINE_WIDTH: Final = 3  # pixels, from a region's border to what still belongs to it
FEWEST_PIXELS: Final = 4  # of a region
SURE: Final = 0.9  # probability
MOST_CONTRADICTING: Final = 0.25  # share of a region's pixels
SOMEWHERE: Final = 0.01  # share of the product's pixels that show a colour
LEAST_LIKELY: Final = 0.2  # of a label that a region is given, as a share of the likeliest one's probability


def settle(
    probabilities: NDArray[np.float32], paper: NDArray[np.float32], told: Sequence[int]
) -> NDArray[np.int64]:
    """The labels (R, R) of (C, R, R) probabilities, on a drawing (R, R) from 0, ink, to 1, white.

    What is ground every pixel says for itself. The pixels of a region, and those of the lines beside it, take
    the label that is likeliest on its mean; not so where some are sure of another one, where they are too
    few, and where the ground flows in through an open line. Of the `told` labels one that came nowhere takes
    as much of the regions as was to be expected of it, first those where it is likeliest beside what they
    have, and leaves every other label a region. Where it is hardly likely, as an opaque colour on glass, it
    takes none.
    """
    own = probabilities.argmax(axis=0)
    regions = _of_product(paper, own)
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
    unsettled = np.bincount(own[~settled[regions]], minlength=len(probabilities))
    somewhere = unsettled > SOMEWHERE * (own != BACKGROUND).sum()
    for wanted in dict.fromkeys(told):
        is_there = somewhere[wanted] or (settled & (chosen == wanted)).any()
        if wanted != BACKGROUND and not is_there:
            _give(chosen, wanted, means, np.where(settled, count, 0))
    labels: NDArray[np.int64] = np.where(is_product & settled[regions], chosen[regions], own)
    return labels


def _of_product(paper: NDArray[np.float32], own: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers from 1 for the regions of the product, with the lines beside them; 0 for all else.

    What reaches the border of the picture, or is ground for the most part, is none.
    """
    regions: NDArray[np.int64] = label(paper > PAPER, connectivity=1)  # type: ignore[no-untyped-call]
    product = np.bincount(regions.ravel(), weights=(own != BACKGROUND).ravel())
    outer = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
    is_ground = 2 * product < np.bincount(regions.ravel())
    is_ground[outer] = True
    expanded = expand_labels(np.where(is_ground[regions], 0, regions), distance=LINE_WIDTH)  # type: ignore[no-untyped-call]
    return np.asarray(expanded)


def _give(
    chosen: NDArray[np.int64], wanted: int, means: NDArray[np.float64], count: NDArray[np.int64]
) -> None:
    """Changes `chosen`, a label a region of `count` pixels, where `wanted` is likeliest, by `means`."""
    beside = means[wanted] / np.maximum(means[chosen, np.arange(len(chosen))], 1e-9)
    may_have = (beside >= LEAST_LIKELY) & (count > 0)
    expected = (means[wanted] * count)[may_have].sum()
    for region in np.argsort(-beside, kind="stable"):
        # More than twice too much is further from what is expected than nothing.
        fits = may_have[region] and count[region] <= 2 * expected
        if fits and ((chosen == chosen[region]) & (count > 0)).sum() > 1:
            expected -= count[region]
            chosen[region] = wanted
