"""Region vote: one label for each closed region of a line drawing.

A network that predicts a layout pixel by pixel leaves patches where two labels are about equally likely. If
any of three colours may be anywhere on a product, the network predicts the most likely colour everywhere. Two
facts help: a region that lines enclose usually has one colour, and every colour of the product appears
somewhere.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label
from skimage.segmentation import expand_labels

from toygan.conditions.condition_types import BACKGROUND

# pixels darker than this (1 is white) are lines; the value is high because a thin line becomes pale when it
# is shrunk
PAPER: Final = 0.9
LINE_WIDTH: Final = 3  # pixels within this distance of a region belong to it
FEWEST_PIXELS: Final = 4  # number of pixels; a smaller region has no vote
SURE: Final = 0.9  # a pixel is sure of a label whose probability is more than this
# a region has no vote if a larger share of its pixels is sure of another label
MOST_CONTRADICTING: Final = 0.25
SOMEWHERE: Final = 0.01  # a colour is present if more than this share of the product has it
# a region may take a missing label whose probability is at least this share of its own label's
LEAST_LIKELY: Final = 0.2


def vote_by_region(
    probabilities: NDArray[np.float32], paper: NDArray[np.float32], wanted_labels: Sequence[int]
) -> NDArray[np.int64]:
    """Turns label probabilities into a layout, by a vote in each region of the line drawing.

    Takes `probabilities` (C, R, R), the drawing `paper` (R, R) from 0 (ink) to 1 (white), and the labels of
    the product's colours. Returns labels (R, R).

    Each pixel decides by itself whether it is ground. All pixels of a region, and of the lines beside it,
    take the label with the highest mean probability. The pixels of a region keep their own labels if the
    region is too small, if many of its pixels are sure of another label, or if the ground reaches the region
    through an open line.

    Then each wanted label that appears nowhere takes over regions, with about as many pixels as its
    probabilities predict. It first takes those regions where it is most likely compared with the region's
    present label. Every other label keeps at least one region. A region where the wanted label is very
    unlikely, such as an opaque colour on glass, is never taken.
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
    has_vote = (count >= FEWEST_PIXELS) & (contradicting <= MOST_CONTRADICTING * count)
    without_vote = np.bincount(own[~has_vote[regions]], minlength=len(probabilities))
    somewhere = without_vote > SOMEWHERE * (own != BACKGROUND).sum()
    for wanted in dict.fromkeys(wanted_labels):
        is_there = somewhere[wanted] or (has_vote & (chosen == wanted)).any()
        if wanted != BACKGROUND and not is_there:
            _give(chosen, wanted, means, np.where(has_vote, count, 0))
    labels: NDArray[np.int64] = np.where(is_product & has_vote[regions], chosen[regions], own)
    return labels


def _of_product(paper: NDArray[np.float32], own: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers the regions of the product from 1, together with the lines beside them. Other pixels are 0.

    A region that touches the border of the picture, or is mostly ground, does not count.
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
    """Gives the label `wanted` to the regions where it is most likely; changes `chosen` in place.

    `chosen` (regions,) has the labels, `count` (regions,) the numbers of pixels, and `means` (C, regions) the
    mean probabilities.
    """
    beside = means[wanted] / np.maximum(means[chosen, np.arange(len(chosen))], 1e-9)
    may_have = (beside >= LEAST_LIKELY) & (count > 0)
    expected = (means[wanted] * count)[may_have].sum()
    for region in np.argsort(-beside, kind="stable"):
        # If a region has more than twice the expected pixels, the label's number of pixels would be farther
        # from the expected one with the region than without it.
        fits = may_have[region] and count[region] <= 2 * expected
        if fits and ((chosen == chosen[region]) & (count > 0)).sum() > 1:
            expected -= count[region]
            chosen[region] = wanted
