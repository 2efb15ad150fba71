"""Sets of N generated or real pictures with their measurements, and the figures of such a set."""

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

FEWEST: Final = 10  # a comparison needs at least this number of pictures, and of photos


@dataclass(frozen=True, kw_only=True)
class Segmented:
    """The labels that a segmenter finds in N pictures, and the labels of their layouts."""

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
    """A set of N pictures, generated or real."""

    features: Features  # (N, D)
    category: NDArray[np.int64]  # (N,)
    delta_e: NDArray[np.float64]  # (N,), CIEDE2000 to the wanted colour; NaN without such a colour
    # (N,), whether the classifier finds the right category; None without a classifier
    right: NDArray[np.bool_] | None
    to_training: NDArray[np.float64]  # (N,), distance in features to the nearest training photo
    pair_category: NDArray[np.int64]  # (P,), category of each pair of pictures with the same conditions
    pair_distance: NDArray[np.float64]  # (P,), perceptual distance of each pair
    segmented: Segmented | None  # None if the model takes no layouts

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
    """Fits a classifier that predicts categories from features; returns None for a single category."""
    if len(np.unique(category)) < 2:
        return None
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train_features, category)


def colour_errors(measured: list[Measures]) -> NDArray[np.float64]:
    """Returns the CIEDE2000 distances to the wanted colours, (N,); NaN if no colour is wanted."""
    return np.array([np.nan if each.colour_delta_e is None else each.colour_delta_e for each in measured])


def group(generated: SampleSet, real: SampleSet, *, whole: bool) -> Group:
    compared = compare(generated.features, real.features, whole=whole)
    return Group(
        pictures=_describe(generated, compared), photos=_describe(real, Scores(pictures=len(real.category)))
    )


def compare(generated: Features, real: Features, *, whole: bool) -> Scores:
    """Computes the figures that compare two sets.

    FID is computed only with `whole`, because for few pictures FID is mostly bias.
    """
    if min(len(generated), len(real)) < FEWEST:
        return Scores(pictures=len(generated))
    overlap = metrics.manifolds(real, generated)
    return Scores(
        pictures=len(generated),
        fid=metrics.frechet_distance(real, generated) if whole else None,
        kid=metrics.kernel_distance(real, generated),
        precision=overlap.precision,
        recall=overlap.recall,
        density=overlap.density,
        coverage=overlap.coverage,
    )


def _describe(samples: SampleSet, compared: Scores) -> Scores:
    """Adds to `compared` the figures that need only one set."""
    known = samples.delta_e[~np.isnan(samples.delta_e)]
    members = [samples.features[samples.category == category] for category in np.unique(samples.category)]
    spreads = [metrics.diversity(each) for each in members if len(each) >= 2]
    pairs = [
        samples.pair_distance[samples.pair_category == category]
        for category in np.unique(samples.pair_category)
    ]
    return replace(
        compared,
        diversity=float(np.mean(spreads)) if spreads else None,
        perceptual_diversity=float(np.mean([each.mean() for each in pairs])) if pairs else None,
        colour_delta_e=float(np.median(known)) if len(known) else None,
        category_accuracy=None if samples.right is None else float(samples.right.mean()),
        layout_agreement=None if samples.segmented is None else samples.segmented.agreement,
        nearest_training=float(np.median(samples.to_training)),
    )
