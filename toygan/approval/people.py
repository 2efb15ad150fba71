"""Fits the thresholds to people's decisions, and also the probe if that helps.

Only decisions about pictures that pass all checks are used, because only for these does the score decide.
Three rules are compared by the share of decisions with which they agree: the present rule, new thresholds for
the present score, and new thresholds for the score of a refitted probe. The last two are cross-validated by
product. A rejection weighs as much as REJECTION_WEIGHT approvals: customers see a picture that was wrongly
approved, while a good picture that was not approved waits for review.

The refitted probe is a logistic regression on the present logit and the evidence. Only the coefficients of
the evidence are penalised, so few decisions change the score little. The new logit is scaled to the mean and
the spread of the present logit, so that the calibration's map stays valid.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from toygan.approval.probe import rounded
from toygan.artifact.calibration import Agreement, Calibration, sigmoid
from toygan.artifact.probe_weights import Floats, ProbeWeights
from toygan.errors import BadInput

FEWEST_DECISIONS: Final = 20
# in approvals; with 3, a picture is approved if people would approve at least three of four such pictures
REJECTION_WEIGHT: Final = 3.0
BORROWED_DECISIONS: Final = (
    # For a category's threshold, all decisions about other categories together weigh as much as this number
    # of decisions about the category.
    10
)
INVERSE_PENALTY: Final = 3e-3  # scikit-learn's C
CONFIDENCE: Final = 1.645  # standard errors; a one-sided level of 95 %
# the present logit is multiplied by this, which makes the penalty on its coefficient small
_LOGIT_SCALE: Final = 10.0
# distance, in log-odds, from the outermost decided picture to a threshold beyond all pictures
_BEYOND: Final = 0.1
Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class DecidedPictures:
    """N pictures that pass all checks, and that people approved or rejected."""

    categories: NDArray[np.str_]  # (N,)
    skus: NDArray[np.str_]  # (N,)
    is_approved: Flags  # (N,)
    logits: Floats  # (N,) the logits by the present discriminator or probe
    evidence: Floats | None  # (N, K) the evidence of the probe; None if no probe is to be refitted

    def __len__(self) -> int:
        return len(self.skus)

    def select(self, chosen: Flags | NDArray[np.int64]) -> "DecidedPictures":
        """Returns the pictures that `chosen` selects."""
        return DecidedPictures(
            categories=self.categories[chosen],
            skus=self.skus[chosen],
            is_approved=self.is_approved[chosen],
            logits=self.logits[chosen],
            evidence=None if self.evidence is None else self.evidence[chosen],
        )


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """A rule that approves pictures. `shifts` are added to the thresholds of categories, in log-odds."""

    probe: ProbeWeights | None  # a refitted probe; None if the present score is used
    shifts: dict[str, float]

    def approves(self, calibration: Calibration, pictures: DecidedPictures) -> Flags:
        return _margins(calibration, pictures, self.logits(pictures)) >= np.array(
            [self.shifts.get(name, 0.0) for name in pictures.categories]
        )

    def logits(self, pictures: DecidedPictures) -> Floats:
        if self.probe is None or pictures.evidence is None:
            return pictures.logits
        return self.probe.logits(pictures.evidence)


def fit_to_people(calibration: Calibration, pictures: DecidedPictures) -> Calibration:
    """Returns the calibration that agrees best with people, with the field `agreement`.

    `calibration` must not be fitted to decisions yet, see `Calibration.without_people`. The logits of
    `pictures` must be of its score. Its thresholds, or its thresholds and probe, are replaced only by a rule
    that agrees with more decisions, by weight, of those that the rule was not fitted to. The gain must be
    larger than chance explains in 95 of 100 cases. Raises BadInput for fewer than FEWEST_DECISIONS decisions,
    or if all decisions are the same.
    """
    approved = int(pictures.is_approved.sum())
    if len(pictures) < FEWEST_DECISIONS or approved in (0, len(pictures)):
        raise BadInput(
            f"people approved {approved} and rejected {len(pictures) - approved} pictures of this model that "
            f"pass all checks; at least {FEWEST_DECISIONS} decisions are needed, and some of each kind"
        )
    present = _Rule(probe=None, shifts={})
    before = present.approves(calibration, pictures) == pictures.is_approved
    after = _of_unseen(calibration, pictures)
    # One-sided McNemar's test (1947), with weights: only pictures about which the two rules differ are
    # compared, and each adds the square of its weight to the variance.
    weights = _weights(pictures)
    gain, spread = weights @ after - weights @ before, (weights**2 @ (after != before)) ** 0.5
    rule = _best_rule(calibration, pictures) if gain > CONFIDENCE * spread else present
    if rule == present:
        after = before
    agreement = Agreement(
        decisions=len(pictures),
        before=_share(before, pictures),
        after=_share(after, pictures),
        thresholds={name: calibration.of(name).threshold for name, shift in rule.shifts.items() if shift},
        probe=None if rule.probe is None else calibration.probe,
    )
    return _with_rule(calibration, rule, agreement)


def agreement_with(calibration: Calibration, pictures: DecidedPictures) -> float:
    """Returns the share of the decisions with which the calibration agrees, by weight, 0..1."""
    agrees = _Rule(probe=None, shifts={}).approves(calibration, pictures) == pictures.is_approved
    return _share(agrees, pictures)


def _share(agrees: Flags, pictures: DecidedPictures) -> float:
    return float(np.average(agrees, weights=_weights(pictures)))


def _weights(pictures: DecidedPictures) -> Floats:
    return np.where(pictures.is_approved, 1.0, REJECTION_WEIGHT)


def _with_rule(calibration: Calibration, rule: _Rule, agreement: Agreement) -> Calibration:
    categories = {
        name: replace(each, threshold=float(sigmoid(np.array(_log_odds(each.threshold) + rule.shifts[name]))))
        if rule.shifts.get(name)
        else each
        for name, each in calibration.categories.items()
    }
    return replace(
        calibration,
        categories=MappingProxyType(categories),
        probe=rule.probe or calibration.probe,
        agreement=agreement,
    )


def _of_unseen(calibration: Calibration, pictures: DecidedPictures) -> Flags:
    """Says for each picture whether the best rule agrees with its decision, (N,) bool.

    For each picture, the rules were fitted to other products.
    """
    agrees = np.zeros(len(pictures), dtype=bool)
    for seen, unseen in _folds(pictures, calibration):
        of_fold = pictures.select(unseen)
        approves = _best_rule(calibration, pictures.select(seen)).approves(calibration, of_fold)
        agrees[unseen] = approves == of_fold.is_approved
    return agrees


def _best_rule(calibration: Calibration, pictures: DecidedPictures) -> _Rule:
    """Returns the rule that agrees with most decisions, by weight, of those that it was not fitted to.

    Of several such rules, it returns the simplest.
    """
    best = _Rule(probe=None, shifts={})
    most = float(_weights(pictures) @ (best.approves(calibration, pictures) == pictures.is_approved))
    scores: list[tuple[ProbeWeights | None, Floats]] = [(None, pictures.logits)]
    if calibration.probe is not None and pictures.evidence is not None and _both_kinds(pictures):
        scores.append(_refitted(calibration, calibration.probe, pictures))
    for probe, logits in scores:
        margins = _margins(calibration, pictures, logits)
        agreeing = 0.0
        for seen, unseen in _folds(pictures, calibration):
            shifts = _shifts(calibration, pictures.select(seen), margins[seen], is_refitted=probe is not None)
            limits = np.array([shifts.get(name, 0.0) for name in pictures.categories[unseen]])
            of_fold = pictures.select(unseen)
            agreeing += float(_weights(of_fold) @ ((margins[unseen] >= limits) == of_fold.is_approved))
        if agreeing > most:
            shifts = _shifts(calibration, pictures, margins, is_refitted=probe is not None)
            most, best = agreeing, _Rule(probe=probe, shifts=shifts)
    return best


def _refitted(
    calibration: Calibration, probe: ProbeWeights, pictures: DecidedPictures
) -> tuple[ProbeWeights, Floats]:
    """Returns a probe fitted to all decisions, and logits (N,) for comparison.

    Each of these logits is from a probe that was not fitted to the picture's product.
    """
    logits = np.empty(len(pictures))
    for seen, unseen in _folds(pictures, calibration):
        known = pictures.select(seen)
        of_fold = _fit_probe(probe, known) if _both_kinds(known) else probe
        assert pictures.evidence is not None
        logits[unseen] = of_fold.logits(pictures.evidence[unseen])
    return _fit_probe(probe, pictures), logits


def _fit_probe(probe: ProbeWeights, pictures: DecidedPictures) -> ProbeWeights:
    from sklearn.linear_model import LogisticRegression

    assert pictures.evidence is not None
    centre, spread = pictures.evidence.mean(axis=0), pictures.evidence.std(axis=0)
    spread[spread == 0] = 1.0
    mean, deviation = float(pictures.logits.mean()), float(pictures.logits.std()) or 1.0
    present = _LOGIT_SCALE * (pictures.logits - mean) / deviation
    inputs = np.column_stack([present, (pictures.evidence - centre) / spread])
    layer = LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=1000)
    layer.fit(inputs, pictures.is_approved)
    of_logit, of_evidence = layer.coef_[0, 0] * _LOGIT_SCALE / deviation, layer.coef_[0, 1:] / spread
    weights = of_logit * np.array(probe.weights) + of_evidence
    found = pictures.evidence @ weights
    scale = deviation / (float(found.std()) or 1.0)
    return replace(
        probe,
        weights=tuple(rounded(weight) for weight in scale * weights),
        intercept=rounded(mean - scale * float(found.mean())),
    )


def _shifts(
    calibration: Calibration, pictures: DecidedPictures, margins: Floats, *, is_refitted: bool
) -> dict[str, float]:
    """Returns for each category the shift of its threshold with which most decisions agree.

    A category without decisions gets a shift only if a refitted probe changes the scores.
    """
    shifts = {}
    for name in calibration.categories:
        own = pictures.categories == name
        if not own.any() and not is_refitted:
            continue
        others = len(own) - int(own.sum())
        borrowed = np.where(own, 1.0, min(1.0, BORROWED_DECISIONS / max(1, others)))
        shifts[name] = _best_shift(margins, pictures.is_approved, borrowed * _weights(pictures))
    return shifts


def _best_shift(margins: Floats, is_approved: Flags, weights: Floats) -> float:
    """Returns the limit of margins with which most decisions agree, by weight.

    If several limits are equally good, it returns the one nearest to 0.
    """
    order = np.argsort(margins, kind="stable")
    ordered, signs = margins[order], np.where(is_approved, -1.0, 1.0)[order] * weights[order]
    # gain[i] is the increase of the agreement if the pictures with the i smallest margins are rejected
    gain = np.concatenate([[0.0], np.cumsum(signs)])
    ends = min(0.0, ordered[0] - _BEYOND), max(0.0, ordered[-1] + _BEYOND)
    cuts = np.concatenate([ends[:1], (ordered[1:] + ordered[:-1]) / 2, ends[1:]])
    # Equal margins must be on the same side of a cut.
    possible = np.concatenate([[True], ordered[1:] > ordered[:-1], [True]])
    best = gain[possible].max()
    chosen = cuts[possible & (gain >= best - 1e-9)]
    return float(chosen[np.abs(chosen).argmin()])


def _margins(calibration: Calibration, pictures: DecidedPictures, logits: Floats) -> Floats:
    """Returns how far, in log-odds of `p_real`, each logit (N,) is above the threshold of its category."""
    margins = np.empty(len(pictures))
    for name in np.unique(pictures.categories):
        own, of = pictures.categories == name, calibration.of(str(name))
        margins[own] = of.coef * logits[own] + of.intercept - _log_odds(of.threshold)
    return margins


def _log_odds(p: float) -> float:
    p = min(max(p, 1e-12), 1 - 1e-12)
    return float(np.log(p / (1 - p)))


def _folds(
    pictures: DecidedPictures, calibration: Calibration
) -> Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Splits the pictures into folds by product. With a single product, all pictures are in both parts."""
    from sklearn.model_selection import StratifiedGroupKFold

    products = np.unique(pictures.skus, return_inverse=True)[1]
    # each fold needs at least one product of each kind of decision
    largest = max(pictures.is_approved.sum(), (~pictures.is_approved).sum())
    folds = min(calibration.settings.folds, len(set(products.tolist())), int(largest))
    if folds < 2:
        everything = np.arange(len(pictures))
        return [(everything, everything)]
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=calibration.settings.seed)
    return list(split.split(products, pictures.is_approved, products))


def _both_kinds(pictures: DecidedPictures) -> bool:
    return bool(pictures.is_approved.any() and not pictures.is_approved.all())
