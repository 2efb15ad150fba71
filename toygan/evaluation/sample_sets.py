"""N pictures, generated or real, with all that is measured on each, and the figures of such a set."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from toygan.approval.measures import Measures
from toygan.evaluation import metrics
from toygan.evaluation.features import Features
from toygan.evaluation.result import Group, Scores
from toygan.evaluation.segmentation import mean_iou

FEWEST: Final = 10  # of pictures and of photos, for figures that compare the two


@dataclass(frozen=True, kw_only=True)
class Segmented:
    """What a segmenter finds in N pictures, and what it was to find."""

    found: Tensor  # (N, H, W) int64
    wanted: Tensor  # (N, H, W) uint8
    classes: int

    def of(self, chosen: NDArray[np.bool_]) -> "Segmented":
        return replace(self, found=self.found[chosen], wanted=self.wanted[chosen])

    @property
    def agreement(self) -> float:
        return mean_iou(self.found, self.wanted, self.classes)


@dataclass(frozen=True, kw_only=True)
class SampleSet:
    """One of the two sets that are compared."""

    features: Features  # (N, D)
    category: NDArray[np.int64]  # (N,)
    delta_e: NDArray[np.float64]  # (N,), NaN where no colour is wanted
    right: NDArray[np.bool_] | None  # (N,), whether the classifier names the category
    to_training: NDArray[np.float64]  # (N,), distance to the nearest training photo
    pair_category: NDArray[np.int64]  # (P,), of pairs in the same conditions
    pair_distance: NDArray[np.float64]  # (P,), perceptual
    segmented: Segmented | None  # where layouts were drawn

    def of(self, category: int) -> "SampleSet":
        chosen = self.category == category
        pairs = self.pair_category == category
        return SampleSet(
            features=self.features[chosen],
            category=self.category[chosen],
            delta_e=self.delta_e[chosen],
            right=None if self.right is None else self.right[chosen],
            to_training=self.to_training[chosen],
            pair_category=self.pair_category[pairs],
            pair_distance=self.pair_distance[pairs],
            segmented=None if self.segmented is None else self.segmented.of(chosen),
        )


def fit_classifier(train_features: Features, category: NDArray[np.int64]) -> Pipeline | None:
    """Names the category of a picture by its features; None where there is but one to name."""
    if len(np.unique(category)) < 2:
        return None
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train_features, category)


def colour_errors(measured: list[Measures]) -> NDArray[np.float64]:
    """CIEDE2000 to the wanted colours, (N,), NaN where none is wanted."""
    return np.array([np.nan if each.colour_delta_e is None else each.colour_delta_e for each in measured])


def group(drawn: SampleSet, real: SampleSet, *, whole: bool) -> Group:
    compared = compare(drawn.features, real.features, whole=whole)
    return Group(
        pictures=_describe(drawn, compared), photos=_describe(real, Scores(pictures=len(real.category)))
    )


def compare(drawn: Features, real: Features, *, whole: bool) -> Scores:
    """The figures that compare two sets. The Frechet distance of a few dozen pictures would be all bias."""
    if min(len(drawn), len(real)) < FEWEST:
        return Scores(pictures=len(drawn))
    overlap = metrics.manifolds(real, drawn)
    return Scores(
        pictures=len(drawn),
        fid=metrics.frechet_distance(real, drawn) if whole else None,
        kid=metrics.kernel_distance(real, drawn),
        precision=overlap.precision,
        recall=overlap.recall,
        density=overlap.density,
        coverage=overlap.coverage,
    )


def _describe(side: SampleSet, compared: Scores) -> Scores:
    """`compared` with the figures that one side has for itself."""
    known = side.delta_e[~np.isnan(side.delta_e)]
    members = [side.features[side.category == category] for category in np.unique(side.category)]
    spreads = [metrics.diversity(each) for each in members if len(each) >= 2]
    pairs = [side.pair_distance[side.pair_category == category] for category in np.unique(side.pair_category)]
    return replace(
        compared,
        diversity=float(np.mean(spreads)) if spreads else None,
        perceptual_diversity=float(np.mean([each.mean() for each in pairs])) if pairs else None,
        colour_delta_e=float(np.median(known)) if len(known) else None,
        category_accuracy=None if side.right is None else float(side.right.mean()),
        layout_agreement=None if side.segmented is None else side.segmented.agreement,
        nearest_training=float(np.median(side.to_training)),
    )
