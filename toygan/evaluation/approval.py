"""Measures the benefit of approval and the calibration of `p_real` with photos that were held out."""

from dataclasses import fields
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from toygan.approval.fit import expected_calibration_error
from toygan.evaluation.metrics import Estimate
from toygan.evaluation.result import Interval, Scores

ACCEPTANCE: Final = 0.5  # share of the pictures that are approved
RESAMPLES: Final = 1000
CONFIDENCE: Final = 0.95

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def approve(p_real: Floats, passed: Flags, category: NDArray[np.int64], acceptance: float) -> Flags:
    """Approves the best pictures of each category, the share `acceptance` of them. Returns (N,) bool.

    Pictures that pass the checks come before all others. Among these and among the others, higher scores come
    first. Pictures with equal scores keep their order. The scores `p_real`, the results of the checks
    `passed`, and the categories are (N,) each.
    """
    approved = np.zeros(len(p_real), dtype=bool)
    for each in np.unique(category):
        members = np.flatnonzero(category == each)
        best = members[np.lexsort((members, -p_real[members], ~passed[members]))]
        approved[best[: _share(len(members), acceptance)]] = True
    return approved


def approve_randomly(category: NDArray[np.int64], acceptance: float, random: np.random.Generator) -> Flags:
    """Approves random pictures: in each category the same number as `approve` does."""
    return approve(random.random(len(category)), np.ones(len(category), dtype=bool), category, acceptance)


def mean_scores(draws: list[Scores]) -> Scores:
    """Returns the mean of each figure over several random selections of pictures.

    A figure that a selection lacks is left out. The error of KID is the standard deviation over the
    selections.
    """
    means: dict[str, float | Estimate] = {}
    for field in fields(Scores):
        values = [getattr(each, field.name) for each in draws]
        if field.name == "pictures" or any(value is None for value in values):
            continue
        if isinstance(values[0], Estimate):
            kids = [value.value for value in values]
            means[field.name] = Estimate(value=float(np.mean(kids)), error=float(np.std(kids, ddof=1)))
        else:
            means[field.name] = float(np.mean(values))
    return Scores(pictures=draws[0].pictures, **means)  # type: ignore[arg-type]


def calibration_error(real: Floats, generated: Floats, *, bins: int, seed: int = 0) -> Interval | None:
    """Returns the expected calibration error of `p_real` for N photos (N,) and M pictures (M,).

    Photos and pictures have the same total weight. The interval comes from a bootstrap over photos and
    pictures. The error is biased upwards, and the bootstrap adds this bias a second time. So the ends of the
    interval are the error itself plus the differences between the bootstrap's quantiles and its mean. Returns
    None without photos or without pictures.
    """
    if not len(real) or not len(generated):
        return None
    random = np.random.default_rng(seed)
    resampled = [
        _balanced_error(random.choice(real, len(real)), random.choice(generated, len(generated)), bins)
        for _ in range(RESAMPLES)
    ]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail]) - np.mean(resampled)
    value = _balanced_error(real, generated, bins)
    return Interval(value=value, low=max(0.0, value + float(low)), high=min(1.0, value + float(high)))


def _balanced_error(real: Floats, generated: Floats, bins: int) -> float:
    predicted = np.concatenate([real, generated])
    is_real = np.arange(len(predicted)) < len(real)
    weights = np.where(is_real, 0.5 / len(real), 0.5 / len(generated))
    return expected_calibration_error(predicted, is_real, weights=weights, bins=bins)


def _share(count: int, acceptance: float) -> int:
    # In floating point, a product such as 0.7 * 10 may be slightly above 7, so a small number is subtracted.
    return max(1, ceil(acceptance * count - 1e-9))
