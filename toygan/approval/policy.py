"""What becomes of a candidate. Pure: numbers and reasons in, decisions out."""

from collections.abc import Sequence
from math import isfinite
from typing import Final

from toygan.approval.checks import Reason

MAX_ATTEMPTS: Final = 4  # a run, for one image of one product


def reasons_against(
    *,
    finite: bool,
    failed_checks: Sequence[Reason] = (),
    near_copy: bool = False,
    p_real: float = float("nan"),
    threshold: float,
) -> list[Reason]:
    """Every reason against a candidate; it is approved when there is none, and rejected otherwise.

    `finite` says whether all numbers of the generator's picture were; of one that is not nothing else was
    measured. `p_real` is calibrated, 0..1; NaN, from a discriminator that failed, is below every threshold.
    """
    if not finite:
        return ["not_finite"]
    reasons = list(failed_checks)
    if near_copy:
        reasons.append("near_copy")
    if not p_real >= threshold:
        reasons.append("score_below_threshold")
    return reasons


def pick_for_review(p_reals: Sequence[float | None]) -> int | None:
    """Which of a product image's rejected candidates a person should look at, once the attempts have run out.

    Takes the score of each candidate in the order of the attempts, None for a picture that is not finite.
    Returns the position of the best score, the earliest of equals, or None when there is no finite
    candidate.
    """
    scored = [
        (score, -position) for position, score in enumerate(p_reals) if score is not None and isfinite(score)
    ]
    return -max(scored)[1] if scored else None
