"""Computes figures about sets of pictures as pure functions of their features.

All functions take features of N real pictures (N, D) and of M generated pictures (M, D). They compute in
float64. Functions that compare pairs need about 8 * (N + M)**2 bytes of memory.
"""

import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances, pairwise_distances_argmin_min
from torch import Tensor, nn

from toygan.errors import needs_extra

Features = NDArray[np.floating]
Floats = NDArray[np.float64]

NEIGHBOURS: Final = 5
HALF_SAMPLES: Final = 200
SUBSETS: Final = 100
LARGEST_SUBSET: Final = 1000  # the largest number of pictures of each set in a subset


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure and its standard error."""

    value: float
    error: float


@dataclass(frozen=True, kw_only=True)
class Manifolds:
    """The overlap of two sets of pictures. Density may exceed 1. The other figures lie in 0..1."""

    precision: float
    recall: float
    density: float
    coverage: float


class _Identity(nn.Module):
    """Takes the place of a network in torchmetrics.

    Returns its inputs, because these already are features.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def kernel_distance(
    real: Features, generated: Features, *, seed: int = 0, half_samples: int = HALF_SAMPLES
) -> Estimate:
    """Computes KID (Binkowski et al. 2018, eq. 4): the squared MMD with the kernel (x . y / D + 1)**3.

    The value is that of torchmetrics: the mean of unbiased estimates from `SUBSETS` subsets. A subset is as
    large as the smaller set, but has at most `LARGEST_SUBSET` pictures. The value may be negative.

    The standard deviation over the subsets is not the error of the value, because the subsets share pictures.
    Instead, the error is the standard deviation over random halves of both sets. This is the delete-half
    jackknife (Shao and Wu 1989), which gives the error of the whole estimate without a further factor. Raises
    ValueError if a set has fewer than four pictures.
    """
    with needs_extra("train", "KID"):
        from torchmetrics.image.kid import KernelInceptionDistance
    if min(len(real), len(generated)) < 4:
        raise ValueError(f"{len(real)} real and {len(generated)} generated pictures; four of each are needed")
    x, y = np.asarray(real, dtype=np.float64), np.asarray(generated, dtype=np.float64)
    random = np.random.default_rng(seed)
    halves = _halves(random, half_samples, len(x)), _halves(random, half_samples, len(y))
    error = float(_squared_mmds(x, y, *halves).std(ddof=1))
    size = min(len(x), len(y), LARGEST_SUBSET)
    # If a subset has all pictures, every subset gives the same value.
    subsets = 1 if size == len(x) == len(y) else SUBSETS
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", message="Metric `Kernel Inception Distance` will save all")
        torch.manual_seed(seed)
        metric = KernelInceptionDistance(_Identity(x.shape[1]), subsets=subsets, subset_size=size)
        metric.update(torch.from_numpy(x), real=True)
        metric.update(torch.from_numpy(y), real=False)
        value, _ = metric.compute()
    return Estimate(value=float(value), error=error)


def frechet_distance(real: Features, generated: Features) -> float:
    """Computes FID, the squared Frechet distance of fitted normal distributions (Heusel et al. 2017).

    The value is computed by torchmetrics. It is biased upwards, and with fewer pictures the bias is larger.
    So compare only figures from the same numbers of pictures. Raises ValueError if a set has fewer than two
    pictures.
    """
    with needs_extra("train", "FID"):
        from torchmetrics.image.fid import FrechetInceptionDistance
    if min(len(real), len(generated)) < 2:
        raise ValueError(f"{len(real)} real and {len(generated)} generated pictures; two of each are needed")
    metric = FrechetInceptionDistance(_Identity(real.shape[1])).set_dtype(torch.float64)
    for features, is_real in ((real, True), (generated, False)):
        metric.update(torch.from_numpy(np.asarray(features, dtype=np.float64)), real=is_real)
    return max(0.0, float(metric.compute()))


def manifolds(real: Features, generated: Features, *, neighbours: int = NEIGHBOURS) -> Manifolds:
    """Computes precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

    Each picture is the centre of a ball. On the ball's surface lies the `neighbours`-th nearest neighbour
    from the same set.

    - Precision is the share of generated pictures that lie in the ball of a real picture.
    - Recall is the share of real pictures that lie in the ball of a generated picture.
    - Density is the mean number of balls of real pictures in which a generated picture lies, divided by
      `neighbours`.
    - Coverage is the share of balls of real pictures in which a generated picture lies.

    Raises ValueError if a set has at most `neighbours` pictures.
    """
    if min(len(real), len(generated)) <= neighbours:
        raise ValueError(
            f"{len(real)} real and {len(generated)} generated pictures; more than {neighbours} are needed"
        )
    between = _distances(real, generated)
    real_radius, generated_radius = _radii(real, neighbours), _radii(generated, neighbours)
    in_real_ball = between < real_radius[:, None]
    in_generated_ball = between < generated_radius[None, :]
    return Manifolds(
        precision=float(in_real_ball.any(axis=0).mean()),
        recall=float(in_generated_ball.any(axis=1).mean()),
        density=float(in_real_ball.sum(axis=0).mean() / neighbours),
        coverage=float(in_real_ball.any(axis=1).mean()),
    )


def diversity(features: Features) -> float:
    """Returns the mean distance over all pairs of pictures. Raises ValueError for fewer than two pictures."""
    if len(features) < 2:
        raise ValueError(f"{len(features)} pictures; two are needed")
    return float(_distances(features).sum() / (len(features) * (len(features) - 1)))


def nearest(queries: Features, keys: Features) -> tuple[NDArray[np.int64], Floats]:
    """Finds the nearest of M keys (M, D) for each of N queries (N, D).

    Returns the keys' rows (N,) and the distances (N,).
    """
    rows, distances = pairwise_distances_argmin_min(
        np.asarray(queries, dtype=np.float64), np.asarray(keys, dtype=np.float64)
    )
    return np.asarray(rows, dtype=np.int64), np.asarray(distances, dtype=np.float64)


def _squared_mmds(x: Floats, y: Floats, in_x: Floats, in_y: Floats) -> Floats:
    """Returns the unbiased estimates (S,) from S subsets.

    `in_x` (S, N) and `in_y` (S, M) are 1 for pictures in a subset, else 0.
    """
    within_x, within_y, across = ((a @ b.T / x.shape[1] + 1.0) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    for within in (within_x, within_y):
        np.fill_diagonal(within, 0.0)
    n, m = in_x.sum(axis=1), in_y.sum(axis=1)
    of_x = ((in_x @ within_x) * in_x).sum(axis=1) / (n * (n - 1))
    of_y = ((in_y @ within_y) * in_y).sum(axis=1) / (m * (m - 1))
    return np.asarray(of_x + of_y - 2 * ((in_x @ across) * in_y).sum(axis=1) / (n * m))


def _halves(random: np.random.Generator, count: int, size: int) -> Floats:
    masks = np.zeros((count, size))
    masks[:, : size // 2] = 1.0
    return random.permuted(masks, axis=1)


def _distances(x: Features, y: Features | None = None) -> Floats:
    """Returns distances (N, M); without `y`, (N, N) with a diagonal of exactly 0."""
    other = None if y is None else np.asarray(y, dtype=np.float64)
    return np.asarray(pairwise_distances(np.asarray(x, dtype=np.float64), other))


def _radii(features: Features, neighbours: int) -> Floats:
    # Index 0 is the picture itself, so the wanted neighbour has the index `neighbours`.
    return np.asarray(np.partition(_distances(features), neighbours, axis=1)[:, neighbours])
