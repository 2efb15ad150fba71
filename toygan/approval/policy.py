"""Decides about candidates: approval, rejection, another attempt, or review. All functions here are pure."""

from collections.abc import Sequence
from math import isfinite
from typing import Final

from toygan.approval.checks import KNOWN_SHAPE_SIMILARITY, Reason

# The most attempts for one image of a product over all runs. The count starts again if the row, the model or
# its calibration changes. Runs in which a person asks for another picture do not count.
MAX_ATTEMPTS: Final = 4

# These conditions were found with all four attempts for every product.
#
# With a layout or sketch of its own (468 rows of products that no network had seen), attempts differ little,
# mostly in shading. Of 759 later attempts 15 were approved, none of the 96 after the reason outline_lost, and
# none of the 68 after a picture with a good score. With the conditions 11 of 54 are approved.
#
# With layouts of the bank (500 rows), each attempt may have another layout. Of 148 later attempts 18 were
# approved, none of the 68 after outline_lost. With the conditions 15 of 49 are approved.
FIXED_BY_SHAPE: Final[frozenset[Reason]] = frozenset(
    {"blank", "fill_ratio_low", "fill_ratio_high", "outline_lost"}
)
CHANGED_BY_SHADING: Final[frozenset[Reason]] = frozenset({"score_below_threshold", "near_copy", "not_finite"})
# the least share of the threshold that the best score so far must have for the next attempt
NEEDED_SHARES_OF_OWN_SHAPE: Final = (0.6, 0.85, 0.9)
NEEDED_SHARES: Final = (0.0, 0.45, 0.9)


def reasons_before_generation(*, best_similarity: float | None, lacks_colour: bool = False) -> list[Reason]:
    """Returns the reasons against every possible picture of a product.

    A product with such a reason gets only one picture. `best_similarity`, -1..1, is the best text similarity
    of the layouts in the model's layout bank that may be chosen; None without a bank. `lacks_colour` says
    that the main colour is unknown, although the model's limits need it.
    """
    reasons: list[Reason] = ["colour_unknown"] if lacks_colour else []
    if best_similarity is not None and best_similarity < KNOWN_SHAPE_SIMILARITY:
        reasons.append("shape_guessed")
    return reasons


def reasons_against(
    *,
    finite: bool,
    before_generation: Sequence[Reason] = (),
    failed_checks: Sequence[Reason] = (),
    near_copy: bool = False,
    p_real: float = float("nan"),
    threshold: float,
) -> list[Reason]:
    """Returns every reason against a candidate. A candidate without reasons is approved, others are rejected.

    `finite` says whether all numbers of the generator's picture are finite; other pictures are not measured.
    `before_generation` is the result of `reasons_before_generation` for the product. `p_real` is calibrated,
    0..1. A discriminator that failed gives NaN, which is below every threshold.
    """
    if not finite:
        return ["not_finite"]
    reasons = list(dict.fromkeys([*before_generation, *failed_checks]))
    if near_copy:
        reasons.append("near_copy")
    if not p_real >= threshold:
        reasons.append("score_below_threshold")
    return reasons


def another_attempt_helps(
    reasons: Sequence[Reason], p_reals: Sequence[float | None], threshold: float, *, has_own_shape: bool
) -> bool:
    """Says whether another attempt may be approved, for a product whose shape is given.

    `has_own_shape` says that the product has a layout or sketch of its own; other shapes come from the layout
    bank. If the last picture has a reason in FIXED_BY_SHAPE, another attempt does not help. With the
    product's own shape, all reasons must be in CHANGED_BY_SHADING. The best score so far has to be near the
    threshold, nearer after each attempt. `reasons` are the reasons against the last picture. `p_reals` are
    the scores of all pictures so far, None for a picture that is not finite.
    """
    if not FIXED_BY_SHAPE.isdisjoint(reasons):
        return False
    if has_own_shape and not CHANGED_BY_SHADING.issuperset(reasons):
        return False
    best = max((score for score in p_reals if score is not None and isfinite(score)), default=threshold)
    shares = NEEDED_SHARES_OF_OWN_SHAPE if has_own_shape else NEEDED_SHARES
    return best >= shares[min(len(p_reals), len(shares)) - 1] * threshold


def pick_for_review(p_reals: Sequence[float | None], *, better_than: float | None = None) -> int | None:
    """Picks the rejected candidate that a person should review after the last attempt.

    `p_reals` are the scores of the candidates in the order of the attempts, None for a picture that is not
    finite. Returns the position of the best score; of equal scores, the earliest. `better_than` is the score
    of the candidate that is already in review. Returns None if no candidate is finite, or if no score is
    above `better_than`.
    """
    scored = [
        (score, -position) for position, score in enumerate(p_reals) if score is not None and isfinite(score)
    ]
    if not scored or (better_than is not None and max(scored)[0] <= better_than):
        return None
    return -max(scored)[1]
