import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from toygan.evaluation.metrics import (
    Manifolds,
    diversity,
    frechet_distance,
    kernel_distance,
    manifolds,
    nearest,
)

Floats = NDArray[np.float64]


def column(*values: float) -> Floats:
    return np.array(values, dtype=np.float64)[:, None]


def normal(count: int, size: int, *, seed: int = 0, shift: float = 0.0) -> Floats:
    return np.random.default_rng(seed).normal(shift, 1, (count, size))


def with_moments(mean: Floats, covariance: Floats, count: int, *, seed: int) -> Floats:
    """A set whose mean and covariance are exactly these."""
    raw = normal(count, len(mean), seed=seed)
    raw -= raw.mean(axis=0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False))).T
    return np.asarray(white @ np.linalg.cholesky(covariance).T + mean)


class TestKernelDistance:
    def test_worked_by_hand(self) -> None:
        # k(x, y) = (x y + 1)**3. Pairs within {0, 0, 1, 1}: 1, 8 and four 1, the mean is 13/6. Within
        # {1, 1, 2, 2}: 8, 125 and four 27, the mean is 241/6. Across: (1 + 1 + 8 + 27) / 4 = 9.25.
        found = kernel_distance(column(0, 0, 1, 1), column(1, 1, 2, 2))
        assert found.value == pytest.approx(13 / 6 + 241 / 6 - 2 * 9.25)

    def test_the_dot_product_is_divided_by_the_number_of_features(self) -> None:
        narrow = kernel_distance(column(0, 0, 1, 1), column(1, 1, 2, 2))
        wide = kernel_distance(column(0, 0, 1, 1).repeat(7, axis=1), column(1, 1, 2, 2).repeat(7, axis=1))
        assert wide.value == pytest.approx(narrow.value)
        assert wide.error == pytest.approx(narrow.error)

    @pytest.mark.slow
    def test_it_is_unbiased_and_its_error_is_that_of_other_draws(self) -> None:
        equal = [kernel_distance(normal(40, 3, seed=2 * i), normal(60, 3, seed=2 * i + 1)) for i in range(60)]
        values = np.array([each.value for each in equal])
        assert abs(values.mean()) < 3 * values.std(ddof=1) / np.sqrt(len(values))
        apart = [
            kernel_distance(normal(40, 3, seed=2 * i), normal(60, 3, seed=2 * i + 1, shift=1))
            for i in range(100)
        ]
        spread = np.std([each.value for each in apart], ddof=1)
        assert np.mean([each.error for each in apart]) == pytest.approx(spread, rel=0.25)

    def test_sets_of_other_sizes(self) -> None:
        """The mean over subsets is the estimate from all pairs (eq. 4), but for the subsets' chance."""
        x, y = normal(30, 3), normal(90, 3, seed=1, shift=0.5)
        kernels = [(a @ b.T / 3 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
        within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in kernels[:2]]
        found = kernel_distance(x, y)
        assert found.value == pytest.approx(sum(within) - 2 * kernels[2].mean(), abs=found.error / 4)

    def test_it_is_symmetric_and_leaves_the_random_numbers_of_others_alone(self) -> None:
        x, y = normal(30, 3), normal(30, 3, seed=1, shift=0.5)
        torch.manual_seed(3)
        wanted = torch.rand(1)
        torch.manual_seed(3)
        assert kernel_distance(x, y).value == pytest.approx(kernel_distance(y, x).value)
        assert torch.rand(1) == wanted
        assert kernel_distance(x, y[:20]) == kernel_distance(x, y[:20])

    def test_equal_seeds_give_equal_errors(self) -> None:
        real, made = normal(20, 3), normal(20, 3, seed=1)
        assert kernel_distance(real, made, seed=5) == kernel_distance(real, made, seed=5)
        assert kernel_distance(real, made, seed=5).error != kernel_distance(real, made, seed=6).error

    def test_three_pictures_are_too_few(self) -> None:
        with pytest.raises(ValueError, match="4 real and 3 generated pictures; four"):
            kernel_distance(normal(4, 2), normal(3, 2))


class TestFrechetDistance:
    def test_one_feature_worked_by_hand(self) -> None:
        # Means 0 and 2, variances 2 and 8: 2**2 + (8**0.5 - 2**0.5)**2 = 4 + 2.
        assert frechet_distance(column(-1, 1), column(0, 4)) == pytest.approx(6)

    def test_a_set_is_at_no_distance_from_itself_and_a_shift_counts_squared(self) -> None:
        real = normal(30, 5)
        assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)
        assert frechet_distance(real, real + 0.5) == pytest.approx(5 * 0.25)
        other = normal(40, 5, seed=1)
        assert frechet_distance(real, other) == pytest.approx(frechet_distance(other, real))

    @pytest.mark.parametrize("counts", [(50, 80), (5, 80)])
    def test_the_closed_form_of_two_normal_distributions(self, counts: tuple[int, int]) -> None:
        """Also with fewer pictures than features, where the covariances have no full rank."""
        size = 4 if counts[0] > 5 else 20
        factor = normal(size, size, seed=3)
        covariances = np.diag(np.arange(1.0, size + 1)), factor @ factor.T + np.eye(size)
        means = np.zeros(size), np.arange(size, dtype=np.float64)
        if counts[0] > size:
            sets = [
                with_moments(mean, covariance, count, seed=seed)
                for seed, (mean, covariance, count) in enumerate(zip(means, covariances, counts, strict=True))
            ]
        else:
            sets = [normal(count, size, seed=count) for count in counts]
            means = sets[0].mean(axis=0), sets[1].mean(axis=0)
            covariances = np.cov(sets[0], rowvar=False), np.cov(sets[1], rowvar=False)
        a, b = covariances
        root = sqrtm(sqrtm(b) @ a @ sqrtm(b)).real
        wanted = ((means[0] - means[1]) ** 2).sum() + np.trace(a + b - 2 * root)
        assert frechet_distance(*sets) == pytest.approx(wanted, rel=1e-5)

    def test_one_picture_is_too_few(self) -> None:
        with pytest.raises(ValueError, match="1 real and 5 generated"):
            frechet_distance(normal(1, 3), normal(5, 3))


class TestManifolds:
    def test_one_neighbour_worked_by_hand(self) -> None:
        # Real radii 1, 1, 2, 4, 1, 1; generated ones 3, 3, 1, 1, 1. The balls of 0 and 1 hold 0.5, those of 3
        # and 7 hold 3.5; 0, 1 and 3 lie in generated balls, 7 does not.
        real, made = column(0, 1, 3, 7, 50, 51), column(0.5, 3.5, 20, 21, 22)
        assert manifolds(real, made, neighbours=1) == Manifolds(
            precision=2 / 5, recall=3 / 6, density=4 / 5, coverage=4 / 6
        )

    def test_two_neighbours_worked_by_hand(self) -> None:
        # Real radii 3, 2, 3: all three balls hold 2 and nothing else. Generated radii 9, 8, 9.
        found = manifolds(column(0, 1, 3), column(2, 10, 11), neighbours=2)
        assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(
            (1 / 3, 1, 3 / 3 / 2, 1)
        )

    def test_the_same_pictures_overlap_fully(self) -> None:
        real = normal(60, 4)
        found = manifolds(real, real.copy())
        assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
        assert found.density == pytest.approx(1, abs=0.25)

    def test_the_precision_of_one_is_the_recall_of_the_other(self) -> None:
        real, made = normal(40, 3), normal(60, 3, seed=1, shift=0.7)
        there, back = manifolds(real, made), manifolds(made, real)
        assert there.precision != there.recall
        assert (there.precision, there.recall) == (back.recall, back.precision)

    def test_distant_pictures_do_not_overlap(self) -> None:
        found = manifolds(normal(20, 4), normal(20, 4, seed=1, shift=100))
        assert found == Manifolds(precision=0, recall=0, density=0, coverage=0)

    def test_one_good_picture_over_and_over_is_precise_and_covers_little(self) -> None:
        real = normal(100, 2)
        found = manifolds(real, real[:1] + np.full((50, 2), 1e-6))
        assert found.precision == 1
        assert found.recall == 0
        assert found.coverage < 0.3

    def test_no_more_pictures_than_neighbours_are_too_few(self) -> None:
        with pytest.raises(ValueError, match="6 real and 5 generated pictures; more than 5 are needed"):
            manifolds(normal(6, 2), normal(5, 2))


def test_diversity_is_the_mean_over_all_pairs() -> None:
    assert diversity(column(0, 1, 3)) == pytest.approx((1 + 3 + 2) / 3)
    assert diversity(column(4, 4, 4)) == 0
    with pytest.raises(ValueError, match="1 pictures; two are needed"):
        diversity(column(1))


def test_nearest_names_the_row_and_the_distance() -> None:
    rows, distances = nearest(column(0.9, 7, 3), column(3, 1, 10))
    assert rows.tolist() == [1, 2, 0]
    assert distances.tolist() == pytest.approx([0.1, 3, 0])
