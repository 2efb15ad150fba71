"""A watch over a training: one that blows up or collapses goes back to where it was healthy, and slower.

Three things are looked at whenever losses are reported: that every number is finite; that the discriminator
has not won for good (its loss stays at zero, so the generator is told nothing any more); and that the
pictures of a fixed batch still differ from each other. What happens then is in `toygan.training.train`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from toygan.training.config import LossName

LR_FACTOR = 0.5  # of both rates, at each rollback
MAX_ROLLBACKS = 6
WON_LOSS = 1e-3  # a discriminator's loss below this is zero
WON_REPORTS = 3  # so many reports in a row
LOST_SHARE = 0.1  # of the best diversity so far, or of that of photos where the best was above it
LOST_REPORTS = 2


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What the guard remembers; a part of the checkpoint, so that a resumed training decides alike."""

    rollbacks: int = 0
    best_diversity: float = 0.0  # as a share of that of photos
    won_reports: int = 0  # in a row, so far
    lost_reports: int = 0

    @property
    def lr_factor(self) -> float:
        """What both learning rates are multiplied by."""
        return LR_FACTOR**self.rollbacks

    @property
    def is_calm(self) -> bool:
        """Whether nothing is suspected: only then is a checkpoint one to go back to."""
        return self.won_reports == self.lost_reports == 0

    @property
    def is_spent(self) -> bool:
        """Whether no rollback is left."""
        return self.rollbacks >= MAX_ROLLBACKS

    def watch(self, *, loss: LossName | None, discriminator_loss: float, diversity: float) -> "Guard":
        """Takes one report; `loss` is None where no discriminator takes part.

        The loss of Wasserstein's game has no zero that would mean anything.
        """
        won = loss not in (None, "wasserstein") and discriminator_loss < WON_LOSS
        best = max(self.best_diversity, diversity)
        lost = diversity < LOST_SHARE * min(best, 1.0)
        return replace(
            self,
            best_diversity=best,
            won_reports=self.won_reports + 1 if won else 0,
            lost_reports=self.lost_reports + 1 if lost else 0,
        )

    @property
    def collapse(self) -> str | None:
        """What has gone wrong, or None."""
        if self.won_reports >= WON_REPORTS:
            return f"the discriminator's loss was at zero in {self.won_reports} reports in a row"
        if self.lost_reports >= LOST_REPORTS:
            return "all pictures have become nearly the same"
        return None

    def after_rollback(self, rollbacks: int) -> "Guard":
        """This guard, of a checkpoint, taken up again after so many rollbacks in all."""
        return replace(self, rollbacks=rollbacks)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Raises TypeError for values that `to_json` did not write."""
        return cls(**values)


def non_finite(modules: Mapping[str, nn.Module]) -> str | None:
    """The name of a weight or buffer that holds NaN or infinity; None where all numbers are finite."""
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            if not torch.isfinite(value).all():
                return f"{name}/{key}"
    return None


def diversity(images: Tensor) -> float:
    """How much B pictures (B, 3, H, W) differ: the standard deviation over them, a mean over all numbers."""
    return float(images.float().std(dim=0).mean())
