"""Detects trainings that diverge or collapse.

Each report of the losses checks three things. All numbers must be finite. The discriminator's loss must not
stay at zero, because then the generator gets no gradient. The pictures of a fixed batch must differ from each
other. If a check fails, `toygan.training.train` goes back to the newest checkpoint and continues at lower
learning rates.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

LR_FACTOR = 0.5  # each rollback multiplies both learning rates by this
MAX_ROLLBACKS = 6
WON_LOSS = 1e-3  # a loss of the discriminator below this counts as zero
WON_REPORTS = 3  # after this number of reports in a row with such a loss, the training has collapsed
# a diversity below this share of the best diversity so far, or of the photos' diversity if that is lower, is
# too low
LOST_SHARE = 0.1
LOST_REPORTS = 2  # after this number of reports in a row with too low a diversity, the training has collapsed


@dataclass(frozen=True, kw_only=True)
class Guard:
    """The state of the guard. A checkpoint contains it, so that a resumed training decides the same."""

    rollbacks: int = 0
    best_diversity: float = 0.0  # the best diversity so far, as a share of the photos' diversity
    won_reports: int = 0  # the number of reports in a row with a loss of about zero
    lost_reports: int = 0

    @property
    def lr_factor(self) -> float:
        """The factor by which both learning rates are multiplied."""
        return LR_FACTOR**self.rollbacks

    @property
    def is_calm(self) -> bool:
        """Whether no collapse is suspected. Checkpoints are written only if this is true."""
        return self.won_reports == self.lost_reports == 0

    @property
    def is_spent(self) -> bool:
        """Whether all rollbacks are used up."""
        return self.rollbacks >= MAX_ROLLBACKS

    def watch(self, *, discriminator_loss: float, diversity: float) -> "Guard":
        """Returns the guard after one more report."""
        won = discriminator_loss < WON_LOSS
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
        """The reason to go back to a checkpoint; None if there is no reason."""
        if self.won_reports >= WON_REPORTS:
            return f"the discriminator's loss was at zero in {self.won_reports} reports in a row"
        if self.lost_reports >= LOST_REPORTS:
            return "all pictures have become nearly the same"
        return None

    def after_rollback(self, rollbacks: int) -> "Guard":
        """Returns the guard of a checkpoint with the number of all rollbacks so far."""
        return replace(self, rollbacks=rollbacks)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Makes a guard of the values of `to_json`. Raises TypeError for other values."""
        return cls(**values)


def non_finite(modules: Mapping[str, nn.Module]) -> str | None:
    """Returns the name of a weight or buffer with NaN or infinity; None if all numbers are finite."""
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            if not torch.isfinite(value).all():
                return f"{name}/{key}"
    return None


def diversity(images: Tensor) -> float:
    """Returns the standard deviation over B pictures (B, 3, H, W), averaged over the values of a picture."""
    return float(images.float().std(dim=0).mean())
