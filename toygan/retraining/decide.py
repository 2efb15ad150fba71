"""Decides whether a challenger is promoted, by a few rules on the figures of both models."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from typing import NamedTuple

from toygan.evaluation.metrics import Estimate
from toygan.evaluation.result import Evaluation, Group, Scores
from toygan.evaluation.sample_sets import FEWEST
from toygan.retraining.request import Limits


class Rule(NamedTuple):
    """The result of one rule."""

    holds: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The results of all rules. The challenger is promoted if every rule holds."""

    rules: tuple[Rule, ...]

    @property
    def promoted(self) -> bool:
        return all(rule.holds for rule in self.rules)


def decide(
    challenger: Evaluation, champion: Evaluation, *, categories: Sequence[str], limits: Limits
) -> Decision:
    """Applies the rules to two evaluations on the same photos of val, at the same resolution and features.

    - KID over all categories must fall by more than the standard error of the difference. This error is
      computed as if the two figures were independent. It is somewhat too large, because both use the same
      photos.
    - Recall may fall by at most `limits.recall_loss`.
    - In each of `categories`, which are those of the champion, KID may rise by at most the share
      `limits.category_loss` of the champion's KID, plus the standard error of the difference. Each category
      must have enough photos to measure KID.
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
        f"KID x 1000: {_thousand(new)}, champion {_thousand(old)}; "
        f"it must fall by more than {1000 * error:.1f}",
    )


def _recall_rule(challenger: Scores, champion: Scores, limits: Limits) -> Rule:
    new, old = challenger.recall, champion.recall
    if new is None or old is None:
        return Rule(False, "recall: too few photos of val to measure it")
    return Rule(
        old - new <= limits.recall_loss,
        f"recall: {new:.3f}, champion {old:.3f}; it may fall by at most {limits.recall_loss:g}",
    )


def _category_rule(name: str, challenger: Evaluation, champion: Evaluation, limits: Limits) -> Rule:
    groups = challenger.categories.get(name), champion.categories.get(name)
    new, old = (None if group is None else group.pictures.kid for group in groups)
    if new is None or old is None:
        return Rule(False, f"{name}: {_too_few(groups)}, too few to say whether it has become worse")
    allowed = limits.category_loss * max(old.value, 0.0) + hypot(new.error, old.error)
    return Rule(
        new.value - old.value <= allowed,
        f"{name}: KID x 1000 {_thousand(new)}, champion {_thousand(old)}; "
        f"it may rise by at most {1000 * allowed:.1f}",
    )


def _too_few(groups: Sequence[Group | None]) -> str:
    """Returns the number of photos of val, or that of the pictures if the photos suffice."""
    photos = min(0 if group is None else group.photos.pictures for group in groups)
    pictures = min(0 if group is None else group.pictures.pictures for group in groups)
    return f"{photos} photos of val" if photos < FEWEST else f"{pictures} generated pictures of a model"


def _thousand(kid: Estimate) -> str:
    return f"{1000 * kid.value:.1f} ± {1000 * kid.error:.1f}"
