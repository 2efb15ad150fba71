"""Decides whether a challenger is promoted, by a few rules on the figures of both models."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from typing import NamedTuple

from toygan.evaluation.metrics import Estimate
from toygan.evaluation.result import Evaluation, Scores
from toygan.retraining.request import Limits


class Rule(NamedTuple):
    """The result of one rule."""

    holds: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The challenger is promoted when every rule holds."""

    rules: tuple[Rule, ...]

    @property
    def promoted(self) -> bool:
        return all(rule.holds for rule in self.rules)


def decide(
    challenger: Evaluation, champion: Evaluation, *, categories: Sequence[str], limits: Limits
) -> Decision:
    """Applies the rules to two evaluations on the same photos of val, at the same resolution and features.

    KID over all categories must fall by more than the standard error of the difference. That error assumes
    that the two are independent; they share the photos, so it is somewhat too large. Recall may fall by
    `limits.recall_loss`. In none of `categories`, the champion's, may KID rise by more than
    `limits.category_loss` of the champion's figure plus that standard error. Each category must have enough
    photos to measure this.
    """
    for figure in ("resolution", "feature_network", "neighbours"):
        if getattr(challenger, figure) != getattr(champion, figure):
            raise ValueError(f"the two evaluations differ in {figure}")
    rules = [
        _kid_rule(challenger.overall.pictures, champion.overall.pictures),
        _recall_rule(challenger.overall.pictures, champion.overall.pictures, limits),
        *(_category_rule(name, challenger, champion, limits) for name in categories),
    ]
    return Decision(rules=tuple(rules))


def _kid_rule(challenger: Scores, champion: Scores) -> Rule:
    new, old = challenger.kid, champion.kid
    if new is None or old is None:
        return Rule(False, "KID: too few photos of val to measure it")
    error = hypot(new.error, old.error)
    return Rule(
        old.value - new.value > error,
        f"KID x 1000: {_thousand(new)} after {_thousand(old)}; it must fall by more than {1000 * error:.1f}",
    )


def _recall_rule(challenger: Scores, champion: Scores, limits: Limits) -> Rule:
    new, old = challenger.recall, champion.recall
    if new is None or old is None:
        return Rule(False, "recall: too few photos of val to measure it")
    return Rule(
        old - new <= limits.recall_loss,
        f"recall: {new:.3f} after {old:.3f}; it may fall by {limits.recall_loss:g}",
    )


def _category_rule(name: str, challenger: Evaluation, champion: Evaluation, limits: Limits) -> Rule:
    groups = challenger.categories.get(name), champion.categories.get(name)
    new, old = (None if group is None else group.pictures.kid for group in groups)
    if new is None or old is None:
        photos = 0 if groups[1] is None else groups[1].photos.pictures
        return Rule(False, f"{name}: {photos} photos of val, too few to say whether it has become worse")
    allowed = limits.category_loss * max(old.value, 0.0) + hypot(new.error, old.error)
    return Rule(
        new.value - old.value <= allowed,
        f"{name}: KID x 1000 {_thousand(new)} after {_thousand(old)}; it may rise by {1000 * allowed:.1f}",
    )


def _thousand(kid: Estimate) -> str:
    return f"{1000 * kid.value:.1f} ± {1000 * kid.error:.1f}"
