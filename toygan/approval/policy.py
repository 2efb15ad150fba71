"""Decides about candidates: approval, rejection, another attempt, review. All functions are pure."""

from collections.abc import Sequence
from math import isfinite
from typing import Final

from toygan.approval.checks import KNOWN_SHAPE_SIMILARITY, Reason

# The attempts for one image of a product over all runs, as long as the row, the model and its calibration
# stay the same. Runs in which a person asks for another picture do not count.
MAX_ATTEMPTS: Final = 4

# A second, third or fourth attempt is made only if the best score so far is at least NEEDED_SHARES of the
# threshold, and if the last picture has none of the reasons FIXED_BY_SHAPE. Both were measured on the bundled
# catalog without these rules: 187 of 387 candidates were later attempts, and 7 of these were approved. None
# of the 7 followed a picture with one of the reasons. With the shares, 36 later attempts give the same 7.
FIXED_BY_SHAPE: Final[frozenset[Reason]] = frozenset({"blank", "fill_ratio_low", "fill_ratio_high"})
NEEDED_SHARES: Final = (0.25, 0.45, 0.9)


def reasons_before_drawing(*, best_similarity: float | None, lacks_colour: bool = False) -> list[Reason]:
    """Returns the reasons against every possible picture of a product. Such a product is generated only once.

    `best_similarity`, -1..1, is the text similarity of the nearest layout in the model's layout bank, None
    without a bank. `lacks_colour` says that the main colour is unknown although the model's limits need one.
    """
    reasons: list[Reason] = ["colour_unknown"] if lacks_colour else []
    if best_similarity is not None and best_similarity < KNOWN_SHAPE_SIMILARITY:
        reasons.append("shape_guessed")
    return reasons


def reasons_against(
    *,
    finite: bool,
    before_drawing: Sequence[Reason] = (),
    failed_checks: Sequence[Reason] = (),
    near_copy: bool = False,
    p_real: float = float("nan"),
    threshold: float,
) -> list[Reason]:
    """Returns every reason against a candidate. Without a reason it is approved, otherwise it is rejected.

    `finite` says whether all numbers of the generator's picture are finite; other pictures are not measured.
    `before_drawing` is the result of `reasons_before_drawing` for the product. `p_real` is calibrated, 0..1.
    A discriminator that failed gives NaN, which is below every threshold.
    """
    if not finite:
        return ["not_finite"]
    reasons = list(dict.fromkeys([*before_drawing, *failed_checks]))
    if near_copy:
        reasons.append("near_copy")
    if not p_real >= threshold:
        reasons.append("score_below_threshold")
    return reasons


def another_attempt_helps(
    reasons: Sequence[Reason], p_reals: Sequence[float | None], threshold: float
) -> bool:
    """Says whether one more picture may be approved. It is for products with a given layout or sketch.

    The pictures of such a product differ little, mostly in shading. `reasons` are the reasons against the
    last picture. `p_reals` are the scores of all pictures so far, None for a picture that is not finite. A
    shape that does not fit the frame will not fit next time either. The best score has to be near the
    threshold, and nearer after each attempt.
    """
    if not FIXED_BY_SHAPE.isdisjoint(reasons):
        return False
    best = max((score for score in p_reals if score is not None and isfinite(score)), default=threshold)
    needed = NEEDED_SHARES[min(len(p_reals), len(NEEDED_SHARES)) - 1]
    return best >= needed * threshold


def pick_for_review(p_reals: Sequence[float | None], *, better_than: float | None = None) -> int | None:
    """Picks the rejected candidate that a person should review after the last attempt.

    Takes the score of each candidate in the order of the attempts, None for a picture that is not finite.
    Returns the position of the best score, the earliest of equals. Returns None if no candidate is finite, or
    if none has a score above `better_than`, the score of the candidate that is in review already.
    """
    scored = [
        (score, -position) for position, score in enumerate(p_reals) if score is not None and isfinite(score)
    ]
    if not scored or (better_than is not None and max(scored)[0] <= better_than):
        return None
    return -max(scored)[1]
