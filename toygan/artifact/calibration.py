"""Maps a logit to `p_real`, which can be compared across categories and models.

The logit comes from the discriminator or from a probe. The map is Platt's: a logistic function of the logit,
one per category. scikit-learn fits it on real photos outside the training and on generated pictures. Photos
and generated pictures have the same total weight. The pictures of other categories count a little, too. If
half of all pictures were real photos, `p_real` would be the probability that a picture is one of them.

The expected calibration error measures the fit (Naeini et al. 2015, "Obtaining Well Calibrated Probabilities
Using Bayesian Binning"; Guo et al. 2017, "On Calibration of Modern Neural Networks"). Here it is computed on
cross-validated predictions. The bins have equal mass, and photos and generated pictures weigh the same.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from math import isfinite
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from toygan.artifact.colour_profile import ColourProfile
from toygan.artifact.limits import CategoryLimits
from toygan.artifact.probe_weights import Floats, ProbeWeights
from toygan.errors import ModelError

VERSION: Final = 1
# the version of a calibration with a probe; a program that knows only version 1 refuses it
PROBED_VERSION: Final = 2


@dataclass(frozen=True, kw_only=True)
class CalibrationSettings:
    """The settings by which a calibration is fitted."""

    acceptance: float = (
        0.5  # the threshold is set so that this share of the pictures that pass the checks reaches it
    )
    folds: int = 5  # the number of stratified folds of the cross-validation
    bins: int = 10  # the number of bins of equal mass for the expected calibration error
    seed: int = 0  # the seed of the shuffling before the pictures are split into folds

    def __post_init__(self) -> None:
        if not 0 < self.acceptance <= 1:
            raise ValueError(f"acceptance is {self.acceptance}; it must be above 0 and at most 1")
        if self.folds < 2:
            raise ValueError(f"folds is {self.folds}; it must be at least 2")
        if self.bins < 1:
            raise ValueError(f"bins is {self.bins}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class CategoryCalibration:
    """A category's map, p_real = 1 / (1 + exp(-(coef * logit + intercept))), and its threshold."""

    coef: float  # never negative: a higher logit never means a lower p_real
    intercept: float
    threshold: float  # the lowest approved p_real, 0..1
    pooled: bool  # whether the map is the common map of all categories
    # the expected calibration error, 0..1; None if real photos or generated pictures are missing
    ece: float | None
    n_real: int
    n_generated: int
    limits: CategoryLimits

    def __post_init__(self) -> None:
        for name in ("coef", "intercept", "threshold"):
            _check_number(name, getattr(self, name))
        if self.ece is not None:
            _check_number("ece", self.ece)
        if self.coef < 0:
            raise ValueError(f"coef is {self.coef}; it must not be negative")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}; it must be from 0 to 1")

    def p_real(self, logit: float) -> float:
        """Returns the probability that a picture with this logit is a real photo. NaN stays NaN."""
        return float(self.p_reals(logit))

    def p_reals(self, logits: ArrayLike) -> Floats:
        """Maps logits of any shape to probabilities of the same shape, float64. NaN stays NaN."""
        return sigmoid(self.coef * np.asarray(logits, dtype=np.float64) + self.intercept)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Says how often a calibration decides as people did: a share (0..1) of the pictures that pass all
    checks, by the weights of `toygan.approval.people`.
    """

    decisions: int  # of people
    before: float  # the share before the calibration was fitted to these decisions
    after: float  # the share after the fit, cross-validated by product
    # The thresholds and the probe from before the decisions. The next fit starts from these.
    thresholds: Mapping[str, float]  # for the categories whose threshold was changed
    probe: ProbeWeights | None  # None if the probe was not changed

    def __post_init__(self) -> None:
        for name in ("before", "after"):
            _check_number(name, getattr(self, name))
        for name, threshold in self.thresholds.items():
            _check_number(f"threshold of {name}", threshold)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The calibration of one model."""

    categories: Mapping[str, CategoryCalibration]
    ece: float  # the expected calibration error of all categories' pictures, 0..1
    settings: CalibrationSettings
    warnings: tuple[str, ...] = ()  # texts for a person to read
    probe: ProbeWeights | None = None  # computes the logit; None if the discriminator does
    # corrects the given colours; it is used in the calibration, too
    colour_profile: ColourProfile | None = None
    agreement: Agreement | None = None  # the agreement with people; None if no decisions were used

    def __post_init__(self) -> None:
        _check_number("ece", self.ece)
        if not self.categories:
            raise ValueError("there is no category")

    def of(self, category: str) -> CategoryCalibration:
        """Returns the calibration of a category. Raises ModelError for a category that was not calibrated."""
        try:
            return self.categories[category]
        except KeyError:
            known = ", ".join(sorted(self.categories))
            raise ModelError(f"the model is not calibrated for {category!r}, only for {known}") from None

    def without_people(self) -> "Calibration":
        """Returns the calibration as it was before it was fitted to people's decisions."""
        if self.agreement is None:
            return self
        earlier = self.agreement.thresholds
        categories = {
            name: replace(each, threshold=earlier.get(name, each.threshold))
            for name, each in self.categories.items()
        }
        return replace(
            self,
            categories=MappingProxyType(categories),
            probe=self.agreement.probe or self.probe,
            agreement=None,
        )

    def to_json(self) -> str:
        """Returns JSON with sorted keys. `from_json` makes an equal calibration from it."""
        categories = {
            name: asdict(each) | {"limits": each.limits.to_json()} for name, each in self.categories.items()
        }
        content: dict[str, Any] = {
            "version": VERSION,
            "ece": self.ece,
            "settings": asdict(self.settings),
            "warnings": list(self.warnings),
            "categories": categories,
        }
        if self.probe is not None:
            content |= {"version": PROBED_VERSION, "probe": asdict(self.probe)}
        if self.colour_profile is not None:
            # This key needs no new version: a program that does not know the key refuses the file.
            content["colour_profile"] = self.colour_profile.to_json()
        if self.agreement is not None:
            thresholds = dict(self.agreement.thresholds)  # asdict cannot copy a mapping proxy
            content["agreement"] = asdict(replace(self.agreement, thresholds=thresholds))
        return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Calibration":
        """Reads the JSON. Raises ModelError that names the part that is missing, unknown or out of range."""
        try:
            top = _parts(json.loads(text))
            return cls(
                ece=top["ece"],
                settings=CalibrationSettings(
                    **_exactly(top["settings"], _names(CalibrationSettings), "settings")
                ),
                warnings=tuple(top["warnings"]),
                categories=MappingProxyType(
                    {name: _category_from_json(name, each) for name, each in dict(top["categories"]).items()}
                ),
                probe=_probe_from_json(top["probe"]) if "probe" in top else None,
                colour_profile=(
                    _profile_from_json(top["colour_profile"]) if "colour_profile" in top else None
                ),
                agreement=_agreement_from_json(top["agreement"]) if "agreement" in top else None,
            )
        except (TypeError, ValueError, RecursionError) as error:
            raise ModelError(
                f"the calibration of the model cannot be used: {error}; calibrate it again"
            ) from error


def require_calibration(
    model: str, calibration: Calibration | None, categories: Sequence[str]
) -> Calibration:
    """Returns the calibration.

    Raises ModelError if there is no calibration, or if it lacks one of the categories.
    """
    remedy = "run `toygan calibrate` on it first"
    if calibration is None:
        raise ModelError(f"the model {model} is not calibrated; {remedy}")
    missing = sorted(set(categories) - calibration.categories.keys())
    if missing:
        raise ModelError(f"the model {model} is not calibrated for {', '.join(missing)}; {remedy}")
    return calibration


def sigmoid(x: Floats) -> Floats:
    """Computes the logistic function without overflow. NaN stays NaN."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.exp(-np.logaddexp(0.0, -x)))


def _parts(values: Any) -> dict[str, Any]:
    """Returns the parts that the calibration's version requires, and the optional ones that are there."""
    version = values.get("version") if isinstance(values, Mapping) else VERSION
    if version not in (VERSION, PROBED_VERSION):
        raise ValueError(
            f"its version is {version!r}, but this program reads the versions {VERSION} and {PROBED_VERSION}"
        )
    parts = {"version", "ece", "settings", "warnings", "categories"}
    if version == PROBED_VERSION:
        parts.add("probe")
    if isinstance(values, Mapping):
        parts |= {"colour_profile", "agreement"} & values.keys()
    return _exactly(values, parts)


def _probe_from_json(values: Any) -> ProbeWeights:
    found = _exactly(values, _names(ProbeWeights), "probe")
    try:
        return ProbeWeights(
            backbone=str(found["backbone"]),
            weights=tuple(map(float, found["weights"])),
            intercept=float(found["intercept"]),
            evidence=found["evidence"],
            side=found["side"],
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"probe: {error}") from error


def _agreement_from_json(values: Any) -> Agreement:
    found = _exactly(values, _names(Agreement), "agreement")
    probe = None if found["probe"] is None else _probe_from_json(found["probe"])
    return Agreement(**{**found, "thresholds": dict(found["thresholds"]), "probe": probe})


def _profile_from_json(values: Any) -> ColourProfile:
    found = _exactly(values, _names(ColourProfile), "colour_profile")
    try:
        return ColourProfile.from_json(found)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"colour_profile: {error}") from error


def _category_from_json(name: str, values: Any) -> CategoryCalibration:
    try:
        found = _exactly(values, _names(CategoryCalibration))
        return CategoryCalibration(**{**found, "limits": CategoryLimits.from_json(found["limits"])})
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"category {name!r}: {error}") from error


def _exactly(values: Any, wanted: set[str], where: str = "it") -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} is not an object")
    if values.keys() != wanted:
        missing, unknown = sorted(wanted - values.keys()), sorted(values.keys() - wanted)
        raise ValueError(f"{where} lacks {missing} and has the unknown {unknown}")
    return dict(values)


def _names(cls: type) -> set[str]:
    return {field.name for field in fields(cls)}


def _check_number(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
        raise ValueError(f"{name} is {value!r}; it must be a finite number")
