"""The request for a retraining."""

from dataclasses import dataclass
from pathlib import Path

from toygan.errors import BadInput
from toygan.evaluation.evaluate import FEWEST
from toygan.uploads.indexing import QUIET_S


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of a promotion: how much worse than the champion a challenger may be in single figures; see
    `decide`.
    """

    recall_loss: float = 0.02  # recall, 0..1, may fall by at most this
    category_loss: float = 0.1  # a category's KID may rise by at most this share of the champion's KID

    def __post_init__(self) -> None:
        for name in ("recall_loss", "category_loss"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"{name} is {getattr(self, name)}; it must lie from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class RetrainRequest:
    """A request to retrain a store's champion."""

    store: str  # URI
    work: Path  # the folder from which an interrupted retraining resumes
    run_id: str
    photos: str | None = None  # training photos besides the uploads, see toygan.data.sources
    catalog: str | None = None  # a catalog with the titles of the uploads, see toygan.uploads.products
    max_images: int = 64_000
    # the time limit of training, calibration and evaluation, see `toygan.retraining.budget`
    max_minutes: float = 360.0
    pictures: int = 1000  # the largest number of pictures of each model for the comparison
    limits: Limits = Limits()
    quiet_s: float = QUIET_S
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.max_images < 1:
            raise BadInput(f"max_images is {self.max_images}; it must be at least 1")
        if not self.max_minutes > 0:
            raise BadInput(f"max_minutes is {self.max_minutes}; it must be above 0")
        if self.pictures < FEWEST:
            raise BadInput(f"pictures is {self.pictures}; it must be at least {FEWEST}")
