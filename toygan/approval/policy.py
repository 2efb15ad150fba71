"""What becomes of a candidate. Pure: numbers and reasons in, decisions out."""

from collections.abc import Sequence
from math import isfinite
from typing import Final

from toygan.approval.checks import KNOWN_SHAPE_SIMILARITY, Reason

# For one image of one product, as long as its row, the model and its calibration stay: over all runs, but for
# those that a person asks for another picture.
MAX_ATTEMPTS: Final = 4

# Of 387 candidates of the bundled catalog 187 were second to fourth ones, and 7 of these were approved. None
# of the 7 followed a picture with one of these reasons. All 7 come about by the shares below as well, which
# the best score has to reach of the threshold before the second, third and fourth attempt: of 36 later ones.
FIXED_BY_SHAPE: Final[frozenset[Reason]] = frozenset({"blank", "fill_ratio_low", "fill_ratio_high"})
NEEDED_SHARES: Final = (0.25, 0.45, 0.9)


def reasons_before_drawing(*, best_similarity: float | None, lacks_colour: bool = False) -> list[Reason]:
    """Why no picture of a product can be approved, whatever is drawn; such a product is drawn once.

    `best_similarity`, -1..1, is that of the nearest layout that the model would draw it from; None without
    such. `lacks_colour` says that its main colour is unknown though the model's limits ask for one.
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
    """Every reason against a candidate; it is approved when there is none, and rejected otherwise.

    `finite` says whether all numbers of the generator's picture were; of one that is not nothing else was
    measured. `before_drawing` is what `reasons_before_drawing` said of its product. `p_real` is calibrated,
    0..1; NaN, from a discriminator that failed, is below every threshold.
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
    """Whether one more picture of a product may be approved whose shape is given, by a layout or a sketch.

    Such pictures differ in little more than shading. `reasons` are those against the last one, `p_reals` the
    scores of all so far, None for a picture that is not finite. A shape that does not fit the frame stays
    so; and the best score has to come near the threshold, the nearer the more attempts were made.
    """
    if not FIXED_BY_SHAPE.isdisjoint(reasons):
        return False
    best = max((score for score in p_reals if score is not None and isfinite(score)), default=threshold)
    needed = NEEDED_SHARES[min(len(p_reals), len(NEEDED_SHARES)) - 1]
    return best >= needed * threshold


def pick_for_review(p_reals: Sequence[float | None], *, better_than: float | None = None) -> int | None:
    """Which of a product image's rejected candidates a person should look at, once the attempts have run out.

    Takes the score of each candidate in the order of the attempts, None for a picture that is not finite.
    Returns the position of the best score, the earliest of equals, or None when there is no finite candidate,
    or none `better_than` the one that a person can look at already.
    """
    scored = [
        (score, -position) for position, score in enumerate(p_reals) if score is not None and isfinite(score)
    ]
    if not scored or (better_than is not None and max(scored)[0] <= better_than):
        return None
    return -max(scored)[1]
