"""Fits a calibration on real photos outside the training and on generated pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toygan.artifact.calibration import Calibration, CalibrationSettings, CategoryCalibration, sigmoid
from toygan.artifact.limits import CategoryLimits
from toygan.artifact.probe_weights import Floats
from toygan.errors import ModelError

# A category with fewer photos or fewer generated pictures takes the common map of all categories.
FEWEST_OF_A_CLASS: Final = 10
# In the map of a category, the photos of all other categories together weigh at most as much as this number
# of the category's own photos. A category has about 30 photos, and a map fitted to these alone overfits. Maps
# were fitted to half of the calibration products and tested on the other half. With 40 borrowed photos the
# log loss was 0.26 (titles) and 0.20 (layouts), without them 0.29 and 0.22.
BORROWED_PHOTOS: Final = 40


def fit_calibration(
    *,
    real_logits: Mapping[str, Sequence[float]],
    generated_logits: Mapping[str, Sequence[float]],
    typical_logits: Mapping[str, Sequence[float]],
    typical_passed: Mapping[str, Sequence[bool]],
    limits: Mapping[str, CategoryLimits],
    settings: CalibrationSettings | None = None,
) -> Calibration:
    """Fits the map and the threshold of every category of `generated_logits`.

    `real_logits` belong to photos outside the training. `generated_logits` belong to generated pictures that
    are compared with these photos. `typical_logits` belong to pictures as the model generates them for a
    catalog, and `typical_passed` says which of these pass all checks. The threshold is the largest value that
    at least the share `settings.acceptance` of the passing pictures reaches, or of all if none passes. The
    categories with too few pictures have one threshold, that of their pictures together.

    The map of a category is fitted to its own pictures. These are few, so the pictures of the other
    categories are used, too, with less weight (`BORROWED_PHOTOS`). A category takes the common map of all
    categories in two cases: if it has too few pictures, or if the discriminator is worse than chance there,
    which means that it rates generated pictures above real ones. (A map with the opposite sign would reward
    pictures that the discriminator takes for fakes.) If even the common map is worse than chance, `p_real` is
    0.5 for every picture, and only the checks decide. `warnings` reports these cases.

    Raises ModelError for logits that are not finite, and ValueError for missing or inconsistent input.
    """
    settings = settings or CalibrationSettings()
    samples = _samples(real_logits, generated_logits)
    for name in samples:
        _check_category(name, limits, len(typical_logits[name]), len(typical_passed[name]))
    together = _Sample.join(list(samples.values()))
    warnings: list[str] = []
    common = _common_map(together, settings, warnings)
    maps = _maps(samples, common, settings, warnings)
    typical = _typical(samples, maps, typical_logits, typical_passed, warnings)
    predicted = np.concatenate([each.predicted for each in maps.values()])
    categories = {
        name: CategoryCalibration(
            coef=maps[name].coef,
            intercept=maps[name].intercept,
            threshold=acceptance_threshold(typical[name].counted, settings.acceptance),
            pooled=maps[name].pooled,
            ece=_balanced_ece(maps[name].predicted, sample.is_real, settings.bins) if sample.n_real else None,
            n_real=sample.n_real,
            n_generated=sample.n_generated,
            limits=limits[name],
        )
        for name, sample in samples.items()
    }
    return Calibration(
        categories=MappingProxyType(categories),
        ece=_balanced_ece(predicted, together.is_real, settings.bins),
        settings=settings,
        warnings=tuple(warnings),
    )


def acceptance_threshold(scores: ArrayLike, acceptance: float) -> float:
    """Returns the largest of the scores (N,) for which at least the share `acceptance` of the scores are as
    large.
    """
    descending = np.sort(np.asarray(scores, dtype=np.float64))[::-1]
    # In floating point, a product such as 0.7 * 10 may be slightly above 7, so a small number is subtracted.
    return float(descending[max(1, ceil(acceptance * len(descending) - 1e-9)) - 1])


def expected_calibration_error(
    predicted: ArrayLike, is_real: ArrayLike, *, weights: ArrayLike | None = None, bins: int
) -> float:
    """Computes the mean over bins of |mean prediction - share of real pictures|, weighted by mass: 0..1.

    `predicted` (N,) are probabilities, `is_real` (N,) is bool, and `weights` (N,) are all 1 by default. The
    bins have equal mass. Equal predictions are in the same bin, so their order does not matter.
    """
    p, real = np.asarray(predicted, dtype=np.float64), np.asarray(is_real, dtype=np.float64)
    mass = np.ones(len(p)) if weights is None else np.asarray(weights, dtype=np.float64)
    _, group = np.unique(p, return_inverse=True)
    mass_of_group = np.bincount(group, weights=mass)
    middle = (np.cumsum(mass_of_group) - mass_of_group / 2) / mass.sum()
    bin_of = np.minimum((middle * bins).astype(int), bins - 1)[group]
    gaps = np.bincount(bin_of, weights=mass * (p - real), minlength=bins)
    return float(np.abs(gaps).sum() / mass.sum())


@dataclass(frozen=True)
class _Map:
    coef: float
    intercept: float
    predicted: Floats  # cross-validated predictions for the sample that the map is fitted to
    pooled: bool = False  # whether it is the common map of all categories


@dataclass(frozen=True)
class _Sample:
    logits: Floats  # within a category the real photos come first
    is_real: NDArray[np.bool_]

    @classmethod
    def of(cls, name: str, real: Sequence[float], generated: Sequence[float]) -> "_Sample":
        logits = np.concatenate([np.asarray(real, dtype=np.float64), np.asarray(generated, dtype=np.float64)])
        if not np.isfinite(logits).all():
            wrong = int((~np.isfinite(logits)).sum())
            raise ModelError(
                f"{wrong} of {len(logits)} logits of {name!r} are not finite; the model is broken"
            )
        return cls(logits, np.arange(len(logits)) < len(real))

    @classmethod
    def join(cls, samples: Sequence["_Sample"]) -> "_Sample":
        return cls(
            np.concatenate([np.empty(0), *(s.logits for s in samples)]),
            np.concatenate([np.empty(0, dtype=bool), *(s.is_real for s in samples)]),
        )

    @property
    def n_real(self) -> int:
        return int(self.is_real.sum())

    @property
    def n_generated(self) -> int:
        return len(self.is_real) - self.n_real

    @property
    def is_small(self) -> bool:
        """Whether there are too few pictures for a map of the category's own."""
        return min(self.n_real, self.n_generated) < FEWEST_OF_A_CLASS


@dataclass(frozen=True)
class _Typical:
    scores: Floats
    passed: NDArray[np.bool_]

    @classmethod
    def of(cls, chosen: _Map, logits: Sequence[float], passed: Sequence[bool]) -> "_Typical":
        scores = sigmoid(chosen.coef * np.asarray(logits) + chosen.intercept)
        return cls(scores, np.asarray(passed, dtype=bool))

    @classmethod
    def join(cls, parts: Sequence["_Typical"]) -> "_Typical":
        return cls(
            np.concatenate([np.empty(0), *(each.scores for each in parts)]),
            np.concatenate([np.empty(0, dtype=bool), *(each.passed for each in parts)]),
        )

    @property
    def counted(self) -> Floats:
        """The scores of the pictures that set a threshold."""
        return self.scores[self.passed] if self.passed.any() else self.scores


def _check_category(name: str, limits: Mapping[str, CategoryLimits], logits: int, results: int) -> None:
    if name not in limits:
        raise ValueError(f"no limits for the category {name!r}")
    if not logits or logits != results:
        raise ValueError(
            f"{name!r}: there are {logits} logits of typical pictures, but {results} results of checks; the "
            "numbers must be equal"
        )


def _samples(
    real_logits: Mapping[str, Sequence[float]], generated_logits: Mapping[str, Sequence[float]]
) -> dict[str, _Sample]:
    samples = {
        name: _Sample.of(name, real_logits.get(name, ()), generated_logits[name])
        for name in sorted(generated_logits)
    }
    if not any(sample.n_real for sample in samples.values()):
        raise ValueError("there is no real photo to calibrate on")
    without = [name for name, sample in samples.items() if not sample.n_generated]
    if without:
        raise ValueError(f"there is no generated picture of {', '.join(without)} to calibrate on")
    return samples


def _common_map(together: _Sample, settings: CalibrationSettings, warnings: list[str]) -> _Map:
    common = _fit(together, settings)
    if common.coef > 0:
        return common
    warnings.append(
        "the discriminator cannot distinguish real from generated pictures at all; only the checks decide"
    )
    return _Map(coef=0.0, intercept=0.0, predicted=np.full(len(together.logits), 0.5))


def _maps(
    samples: Mapping[str, _Sample], common: _Map, settings: CalibrationSettings, warnings: list[str]
) -> dict[str, _Map]:
    maps, start = {}, 0
    for name, sample in samples.items():
        others = _Sample.join([each for other, each in samples.items() if other != name])
        own, end = _own_map(name, sample, others, settings, warnings), start + len(sample.logits)
        maps[name] = own or replace(common, predicted=common.predicted[start:end], pooled=True)
        start = end
    return maps


def _typical(
    samples: Mapping[str, _Sample],
    maps: Mapping[str, _Map],
    logits: Mapping[str, Sequence[float]],
    passed: Mapping[str, Sequence[bool]],
    warnings: list[str],
) -> dict[str, _Typical]:
    """Returns the pictures that set the threshold of each category."""
    typical = {name: _Typical.of(maps[name], logits[name], passed[name]) for name in samples}
    warnings += [
        f"{name}: no generated picture passes the checks; the threshold was fitted to all pictures"
        for name, each in typical.items()
        if not each.passed.any()
    ]
    # Few pictures cannot show which score a small share of them misses: of 20 pictures, 97 % are all 20.
    few = [name for name, sample in samples.items() if sample.is_small]
    return typical | dict.fromkeys(few, _Typical.join([typical[name] for name in few]))


def _own_map(
    name: str, sample: _Sample, others: _Sample, settings: CalibrationSettings, warnings: list[str]
) -> _Map | None:
    """Fits the map of a category.

    If the category must take the common map, adds a warning and returns None.
    """
    if sample.is_small:
        why_not = f"only {sample.n_real} real and {sample.n_generated} generated pictures"
    else:
        own, (coef_alone, _) = _fit(sample, settings, others), _logistic(sample, None)
        if own.coef > 0 and coef_alone > 0:
            return own
        why_not = "the discriminator is worse than chance"
    warnings.append(f"{name}: {why_not}; it takes the map of all categories together")
    return None


def _fit(sample: _Sample, settings: CalibrationSettings, others: _Sample | None = None) -> _Map:
    # scikit-learn takes a second to import, and scoring does not need it.
    from sklearn.model_selection import StratifiedKFold

    coef, intercept = _logistic(sample, others)
    folds = min(settings.folds, sample.n_real, sample.n_generated)
    if folds < 2:
        return _Map(coef, intercept, sigmoid(coef * sample.logits + intercept))
    predicted = np.empty(len(sample.logits))
    split = StratifiedKFold(folds, shuffle=True, random_state=settings.seed)
    for fitted_to, held_out in split.split(sample.logits, sample.is_real):
        fold = _Sample(sample.logits[fitted_to], sample.is_real[fitted_to])
        fold_coef, fold_intercept = _logistic(fold, others)
        predicted[held_out] = sigmoid(fold_coef * sample.logits[held_out] + fold_intercept)
    return _Map(coef, intercept, predicted)


def _logistic(sample: _Sample, others: _Sample | None) -> tuple[float, float]:
    """Fits the coefficient and the intercept. Real and generated pictures have the same total weight."""
    from sklearn.linear_model import LogisticRegression

    parts = [(sample, sample.n_real)]
    if others is not None and others.n_real and others.n_generated:
        parts.append((others, min(others.n_real, BORROWED_PHOTOS)))
    together = _Sample.join([part for part, _ in parts])
    weights = np.concatenate(
        [np.where(part.is_real, photos / part.n_real, photos / part.n_generated) for part, photos in parts]
    )
    # The penalty keeps coefficients finite if the data are separable. The logits are standardised, so that
    # the penalty does not depend on their scale.
    centre, scale = float(together.logits.mean()), float(together.logits.std()) or 1.0
    inputs = ((together.logits - centre) / scale)[:, None]
    model = LogisticRegression().fit(inputs, together.is_real, sample_weight=weights / weights.mean())
    coef = float(model.coef_[0, 0]) / scale
    return coef, float(model.intercept_[0]) - coef * centre


def _balanced_ece(predicted: Floats, is_real: NDArray[np.bool_], bins: int) -> float:
    weights = np.where(is_real, 0.5 / is_real.sum(), 0.5 / (~is_real).sum())
    return expected_calibration_error(predicted, is_real, weights=weights, bins=bins)
