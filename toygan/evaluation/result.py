"""The figures of an evaluation, as JSON and as a table."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toygan.evaluation.metrics import Estimate

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Figures of a set of pictures.

    A figure is None if it does not apply or if there are too few pictures.
    """

    pictures: int
    # this figure and the next five figures compare the pictures with the photos of val
    fid: float | None = None
    kid: Estimate | None = None
    precision: float | None = None
    recall: float | None = None
    density: float | None = None
    coverage: float | None = None
    diversity: float | None = None  # mean distance in features between two pictures of the same category
    # mean perceptual distance between two pictures with equal conditions
    perceptual_diversity: float | None = None
    colour_delta_e: float | None = None  # median CIEDE2000 between main colour and wanted colour
    # share of pictures whose category a classifier finds; it was trained on the training photos
    category_accuracy: float | None = None
    layout_agreement: float | None = None  # mean IoU of the segmenter's output with the given layout
    nearest_training: float | None = None  # median distance in features to the nearest training photo


@dataclass(frozen=True, kw_only=True)
class Group:
    """The figures of generated pictures and of the photos of val, for one category or for all."""

    pictures: Scores
    photos: Scores


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Approval:
    """Compares the best pictures of each category with the same number of random pictures."""

    acceptance: float  # share of the pictures in each of `approved`, `by_score` and `random`
    own_acceptance: float  # share of the pictures that pass the checks and reach the model's thresholds
    approved: Scores  # figures of the best pictures by the checks, then by the score
    by_score: Scores  # figures of the best pictures by the score alone, for comparison
    random: Scores  # means of the figures of several random selections
    # expected calibration error of p_real, 0..1, on the photos of val and the pictures
    calibration_error: Interval | None
    category_calibration_error: Mapping[str, Interval | None]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A generated picture and the training photo that is nearest to it."""

    category: str
    colour_hex: str | None
    seed: int
    sku: str
    distance: float
    pixels: NDArray[np.uint8]  # (2, R, R, 3): the picture and the photo; the JSON does not contain them

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields except the pixels."""
        names = ("category", "colour_hex", "seed", "sku", "distance")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The figures of one model. Compare only figures of equal resolution and equal numbers of pictures."""

    model: str
    version: str
    family: str
    resolution: int  # pixels
    feature_network: str
    seed: int
    neighbours: int  # number of neighbours for precision, recall, density and coverage
    overall: Group
    # figures of the same number of training photos, which stand for the pictures of a perfect model
    training_photos: Scores
    categories: Mapping[str, Group]
    # share of the pictures that are nearer to a training photo than 99 % of the photos of val are
    near_copies: float
    closest: tuple[Pair, ...]
    approval: Approval | None = None  # None if the model has no calibration

    def to_json(self) -> str:
        """Returns all figures as JSON. All numbers are finite; a missing figure is null."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "version": self.version,
            "family": self.family,
            "resolution": self.resolution,
            "feature_network": self.feature_network,
            "seed": self.seed,
            "neighbours": self.neighbours,
            "overall": asdict(self.overall),
            "training_photos": asdict(self.training_photos),
            "categories": {name: asdict(group) for name, group in self.categories.items()},
            "near_copies": self.near_copies,
            "approval": None if self.approval is None else asdict(self.approval),
            "closest": [pair.to_dict() for pair in self.closest],
        }
        return json.dumps(content, indent=1, allow_nan=False)

    def text(self) -> str:
        """Returns tables: overall, per category and, for a calibrated model, the approval."""
        columns = (self.overall.pictures, self.overall.photos, self.training_photos)
        overall = [["", "generated", "val photos", "training photos"]]
        overall += [[name, *(show(scores) for scores in columns)] for name, show in _FIGURES]
        by_category = [list(_HEADINGS)]
        by_category += [_row(name, group) for name, group in self.categories.items()]
        first, *others = self.closest
        return "\n".join(
            [
                f"{self.model}@{self.version} ({self.family}, {self.resolution} pixels), seed {self.seed}, "
                f"on features of {self.feature_network}, {self.neighbours} neighbours",
                "",
                *_aligned(overall),
                "",
                "By category (two figures: generated pictures / photos of val):",
                *_aligned(by_category),
                "",
                *self._approval_text(),
                f"{self.near_copies:.1%} of the pictures are nearer to a training photo than 99 % of the val "
                "photos are.",
                f"The nearest pair: {first.category}, seed {first.seed}, and the photo of {first.sku}, "
                f"{first.distance:.2f} apart{f'; the next is {others[0].distance:.2f}' if others else ''}.",
            ]
        )

    def _approval_text(self) -> list[str]:
        if self.approval is None:
            return []
        found = self.approval
        columns = (self.overall.pictures, found.approved, found.by_score, found.random)
        table = [["", "all", "approved", "by score alone", "random"]]
        table += [[name, *(show(scores) for scores in columns)] for name, show in _COMPARED]
        errors = [["calibration error of p_real", "and its 95 % interval"]]
        errors += [["all categories", _interval(found.calibration_error)]]
        errors += [[name, _interval(each)] for name, each in found.category_calibration_error.items()]
        return [
            f"The best {found.acceptance:.0%} of each category by the model's checks and score, the best by "
            "its score alone, and as many at random (its checks and thresholds approve "
            f"{found.own_acceptance:.0%}):",
            *_aligned(table),
            "",
            *_aligned(errors),
            "",
        ]


def _interval(value: Interval | None) -> str:
    return "-" if value is None else f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _kid(value: Estimate | None) -> str:
    return "-" if value is None else f"{1000 * value.value:.1f} ± {1000 * value.error:.1f}"


_FIGURES: tuple[tuple[str, Callable[[Scores], str]], ...] = (
    ("pictures", lambda scores: str(scores.pictures)),
    ("FID", lambda scores: _number(scores.fid, 1)),
    ("KID x 1000", lambda scores: _kid(scores.kid)),
    ("precision", lambda scores: _number(scores.precision, 3)),
    ("recall", lambda scores: _number(scores.recall, 3)),
    ("density", lambda scores: _number(scores.density, 3)),
    ("coverage", lambda scores: _number(scores.coverage, 3)),
    ("diversity in a category", lambda scores: _number(scores.diversity, 2)),
    ("perceptual diversity", lambda scores: _number(scores.perceptual_diversity, 3)),
    ("colour error (CIEDE2000, median)", lambda scores: _number(scores.colour_delta_e, 2)),
    ("category right", lambda scores: _number(scores.category_accuracy, 3)),
    ("layout agreement (mean IoU)", lambda scores: _number(scores.layout_agreement, 3)),
    ("distance to nearest training photo", lambda scores: _number(scores.nearest_training, 2)),
)

# The figures that compare pictures with photos and that do not depend on the number of pictures.
_COMPARED = tuple(each for each in _FIGURES[:7] if each[0] != "FID")

_HEADINGS = (
    "category",
    "pictures",
    "val",
    "KID x 1000",
    "precision",
    "recall",
    "density",
    "coverage",
    "perceptual diversity",
    "colour error",
    "category right",
    "layout",
    "nearest training",
)


def _row(name: str, group: Group) -> list[str]:
    made, real = group.pictures, group.photos
    return [
        name,
        str(made.pictures),
        str(real.pictures),
        _kid(made.kid),
        _number(made.precision, 2),
        _number(made.recall, 2),
        _number(made.density, 2),
        _number(made.coverage, 2),
        f"{_number(made.perceptual_diversity, 2)} / {_number(real.perceptual_diversity, 2)}",
        f"{_number(made.colour_delta_e, 1)} / {_number(real.colour_delta_e, 1)}",
        f"{_number(made.category_accuracy, 2)} / {_number(real.category_accuracy, 2)}",
        f"{_number(made.layout_agreement, 2)} / {_number(real.layout_agreement, 2)}",
        f"{_number(made.nearest_training, 1)} / {_number(real.nearest_training, 1)}",
    ]


def _aligned(rows: list[list[str]]) -> list[str]:
    """Returns the lines of a table: the first column is aligned to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
