import numpy as np
import pytest

from toygan.evaluation.approval import approve, approve_randomly, calibration_error, mean_scores
from toygan.evaluation.metrics import Estimate
from toygan.evaluation.result import Scores

ALL = np.ones(6, dtype=bool)


def chosen(p_real: list[float], passed: np.ndarray, category: list[int], acceptance: float) -> list[int]:
    approved = approve(np.array(p_real), passed, np.array(category), acceptance)
    return np.flatnonzero(approved).tolist()


def test_the_best_half_of_each_category() -> None:
    # Category 1 scores higher throughout, and still half of category 0 is taken.
    assert chosen([0.1, 0.2, 0.3, 0.4, 0.9, 0.8], ALL, [0, 0, 0, 0, 1, 1], 0.5) == [2, 3, 4]


def test_what_fails_the_checks_comes_last() -> None:
    passed = np.array([True, True, False, False, True, False])
    assert chosen([0.1, 0.2, 0.8, 0.9, 0.3, 0.7], passed, [0] * 6, 0.5) == [0, 1, 4]
    # Where too few pass, the best of the others fill up.
    assert chosen([0.1, 0.2, 0.8, 0.9, 0.3, 0.7], passed, [0] * 6, 4 / 6) == [0, 1, 3, 4]


def test_of_equal_scores_the_first_stay_and_at_least_one_is_taken() -> None:
    assert chosen([0.5] * 6, ALL, [0] * 6, 0.5) == [0, 1, 2]
    assert chosen([0.5] * 6, ALL, [0, 0, 0, 0, 0, 1], 0.01) == [0, 5]
    assert len(chosen([0.5] * 10, np.ones(10, dtype=bool), [0] * 10, 0.7)) == 7


def test_random_approval_takes_as_many_of_each_category() -> None:
    category = np.array([0] * 40 + [1] * 11)
    random = np.random.default_rng(0)
    first, second = (approve_randomly(category, 0.5, random) for _ in range(2))
    assert np.bincount(category[first]).tolist() == np.bincount(category[second]).tolist() == [20, 6]
    assert first.tolist() != second.tolist()


def test_means_over_draws() -> None:
    kids = [Estimate(value=value, error=9.0) for value in (1.0, 2.0, 3.0)]
    draws = [
        Scores(pictures=5, kid=kid, recall=recall) for kid, recall in zip(kids, (0.0, 0.5, 1.0), strict=True)
    ]
    found = mean_scores(draws)
    assert found == Scores(pictures=5, kid=Estimate(value=2.0, error=1.0), recall=0.5)


class TestCalibrationError:
    def test_worked_by_hand(self) -> None:
        # Two bins of equal mass: the lower holds 0.1 (generated) and 0.3 (real), the upper 0.7 and 0.9. Its
        # mean is 0.2 where half are real, theirs 0.8: both are off by 0.3.
        found = calibration_error(np.array([0.3, 0.9]), np.array([0.1, 0.7]), bins=2)
        assert found is not None
        assert found.value == pytest.approx(0.3)

    def test_both_sides_weigh_the_same(self) -> None:
        # A constant score of 0.5 is calibrated, however many more pictures there are.
        even = calibration_error(np.full(5, 0.5), np.full(500, 0.5), bins=10)
        assert even is not None
        assert (even.value, even.low, even.high) == pytest.approx((0, 0, 0))
        # One of 0.2 is off by 0.3, in every resample.
        low = calibration_error(np.full(5, 0.2), np.full(500, 0.2), bins=10)
        assert low is not None
        assert (low.value, low.low, low.high) == pytest.approx((0.3, 0.3, 0.3))

    def test_a_perfect_score(self) -> None:
        found = calibration_error(np.ones(20), np.zeros(30), bins=10)
        assert found is not None
        assert (found.value, found.low, found.high) == (0, 0, 0)

    def test_more_pictures_narrow_the_interval_and_equal_seeds_repeat_it(self) -> None:
        random = np.random.default_rng(0)
        real, generated = random.random(400) ** 0.5, random.random(400)
        few = calibration_error(real[:40], generated[:40], bins=5)
        many = calibration_error(real, generated, bins=5)
        assert few is not None
        assert many is not None
        assert many.high - many.low < few.high - few.low
        assert few.low < few.value < few.high
        assert many.low < many.value < many.high
        assert few == calibration_error(real[:40], generated[:40], bins=5)

    def test_one_side_only(self) -> None:
        assert calibration_error(np.empty(0), np.ones(3), bins=10) is None
        assert calibration_error(np.ones(3), np.empty(0), bins=10) is None
