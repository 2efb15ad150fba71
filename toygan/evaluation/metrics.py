"""Figures about sets of pictures, as pure functions of their features.

All take (N, D) features of real and (M, D) of generated pictures and compute in float64. Memory is some
8 * (N + M)**2 bytes where pairs are compared.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances, pairwise_distances_argmin_min

Features = NDArray[np.floating]
Floats = NDArray[np.float64]

NEIGHBOURS: Final = 5
HALF_SAMPLES: Final = 200


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure and its standard error."""

    value: float
    error: float


@dataclass(frozen=True, kw_only=True)
class Manifolds:
    """How two sets of pictures overlap. Density may exceed 1; the others lie in 0..1."""

    precision: float
    recall: float
    density: float
    coverage: float


def kernel_distance(
    real: Features, generated: Features, *, seed: int = 0, half_samples: int = HALF_SAMPLES
) -> Estimate:
    """Kernel distance, KID: the squared MMD with the kernel (x . y / D + 1)**3.

    The unbiased estimate over all pictures (Binkowski et al. 2018, arXiv 1801.01401, eq. 4), which is the
    mean over all possible subsets; it may be negative. The error is the standard deviation over random halves
    of both sets: that of the delete-half jackknife (Shao and Wu 1989), so it is the error of the whole
    estimate and no factor is missing. Raises ValueError for fewer than four pictures on a side.
    """
    if min(len(real), len(generated)) < 4:
        raise ValueError(f"{len(real)} real and {len(generated)} generated pictures; wanted are four of each")
    x, y = np.asarray(real, dtype=np.float64), np.asarray(generated, dtype=np.float64)
    kernels = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    for within in kernels[:2]:
        np.fill_diagonal(within, 0.0)
    whole = _squared_mmd(*kernels, np.ones((1, len(x))), np.ones((1, len(y))))
    random = np.random.default_rng(seed)
    halves = _squared_mmd(*kernels, *(_halves(random, half_samples, len(each)) for each in (x, y)))
    return Estimate(value=float(whole[0]), error=float(halves.std(ddof=1)))


def frechet_distance(real: Features, generated: Features) -> float:
    """Squared Frechet distance of the normal distributions that fit the two sets (Heusel et al. 2017), FID.

    |mean difference|**2 + tr(A + B - 2 (A B)**0.5) for covariances A and B. With centred sets X and Y,
    A = X'X and B = Y'Y, the trace of the root is the sum of the singular values of X Y'; so no root is taken
    of a matrix that has none, as when there are fewer pictures than features. Biased upwards, the more the
    fewer pictures: compare only figures from the same numbers of pictures. Raises ValueError for fewer than
    two on a side.
    """
    if min(len(real), len(generated)) < 2:
        raise ValueError(f"{len(real)} real and {len(generated)} generated pictures; wanted are two of each")
    (mean_x, x), (mean_y, y) = _centred(real), _centred(generated)
    root_trace = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    distance = ((mean_x - mean_y) ** 2).sum() + (x**2).sum() + (y**2).sum() - 2 * root_trace
    return max(0.0, float(distance))


def manifolds(real: Features, generated: Features, *, neighbours: int = NEIGHBOURS) -> Manifolds:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

    Around every picture lies a ball that reaches to its `neighbours`-th nearest neighbour in its own set.
    Precision is the share of generated pictures in the ball of a real one, recall the share of real ones in
    the ball of a generated one, coverage the share of real balls that hold a generated picture, density the
    number of real balls around a generated picture, divided by `neighbours`. Raises ValueError when a set has
    no more than `neighbours` pictures.
    """
    if min(len(real), len(generated)) <= neighbours:
        raise ValueError(
            f"{len(real)} real and {len(generated)} generated pictures; wanted are more than {neighbours}"
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
    """Mean distance of two different pictures of the set. Raises ValueError for fewer than two."""
    if len(features) < 2:
        raise ValueError(f"{len(features)} pictures; wanted are two")
    return float(_distances(features).sum() / (len(features) * (len(features) - 1)))


def nearest(queries: Features, keys: Features) -> tuple[NDArray[np.int64], Floats]:
    """For each of (N, D) queries the row of the nearest of (M, D) keys and its distance: (N,), (N,)."""
    rows, distances = pairwise_distances_argmin_min(
        np.asarray(queries, dtype=np.float64), np.asarray(keys, dtype=np.float64)
    )
    return np.asarray(rows, dtype=np.int64), np.asarray(distances, dtype=np.float64)


def _kernel(x: Floats, y: Floats) -> Floats:
    return np.asarray((x @ y.T / x.shape[1] + 1.0) ** 3)


def _squared_mmd(within_x: Floats, within_y: Floats, across: Floats, in_x: Floats, in_y: Floats) -> Floats:
    """Of S subsets, given as (S, N) and (S, M) of 0 and 1: (S,). The diagonals within are 0."""
    n, m = in_x.sum(axis=1), in_y.sum(axis=1)
    of_x = ((in_x @ within_x) * in_x).sum(axis=1) / (n * (n - 1))
    of_y = ((in_y @ within_y) * in_y).sum(axis=1) / (m * (m - 1))
    return np.asarray(of_x + of_y - 2 * ((in_x @ across) * in_y).sum(axis=1) / (n * m))


def _halves(random: np.random.Generator, count: int, size: int) -> Floats:
    masks = np.zeros((count, size))
    masks[:, : size // 2] = 1.0
    return random.permuted(masks, axis=1)


def _centred(features: Features) -> tuple[Floats, Floats]:
    """The mean (D,) and a matrix (R, D), R at most D, whose square R'R is the covariance."""
    values = np.asarray(features, dtype=np.float64)
    mean = values.mean(axis=0)
    centred = (values - mean) / np.sqrt(len(values) - 1)
    if len(values) > values.shape[1]:
        centred = np.linalg.qr(centred, mode="r")
    return mean, centred


def _distances(x: Features, y: Features | None = None) -> Floats:
    """(N, M), or (N, N) with a diagonal of exactly 0 where there is no `y`."""
    other = None if y is None else np.asarray(y, dtype=np.float64)
    return np.asarray(pairwise_distances(np.asarray(x, dtype=np.float64), other))


def _radii(features: Features, neighbours: int) -> Floats:
    # The nearest picture of a set is the picture itself.
    return np.asarray(np.partition(_distances(features), neighbours, axis=1)[:, neighbours])
