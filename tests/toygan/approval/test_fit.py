import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toygan.approval.fit import (
    BORROWED_PHOTOS,
    acceptance_threshold,
    expected_calibration_error,
    fit_calibration,
)
from toygan.artifact.calibration import Calibration, CalibrationSettings
from toygan.artifact.limits import CategoryLimits
from toygan.errors import ModelError

LIMITS = CategoryLimits(
    contrast_min=10, fill_ratio_min=0.1, fill_ratio_max=0.6, background_white_min=0.9, colour_delta_e_max=None
)
Logits = dict[str, list[float]]


def sampled(mean: float, count: int, *, seed: int = 0, spread: float = 1.0) -> list[float]:
    return [float(x) for x in np.random.default_rng(seed).normal(mean, spread, count)]


def fitted(
    real: Logits,
    generated: Logits,
    passed: dict[str, list[bool]] | None = None,
    typical: Logits | None = None,
    **settings: float,
) -> Calibration:
    return fit_calibration(
        real_logits=real,
        generated_logits=generated,
        typical_logits=typical or generated,
        typical_passed=passed
        or {name: [True] * len(logits) for name, logits in (typical or generated).items()},
        limits=dict.fromkeys(generated, LIMITS),
        settings=CalibrationSettings(**settings),  # type: ignore[arg-type]
    )


class TestExpectedCalibrationError:
    def test_two_bins_worked_by_hand(self) -> None:
        # Bin 1: mean 0.2, share real 1/2, gap 0.3. Bin 2: mean 0.8, share real 1, gap 0.2. (0.3 + 0.2) / 2.
        error = expected_calibration_error([0.1, 0.3, 0.7, 0.9], [False, True, True, True], bins=2)
        assert error == pytest.approx(0.25)

    def test_one_bin_compares_the_means(self) -> None:
        # Mean 0.5, share real 3/4.
        error = expected_calibration_error([0.1, 0.3, 0.7, 0.9], [False, True, True, True], bins=1)
        assert error == pytest.approx(0.25)
        assert expected_calibration_error([0.75] * 4, [False, True, True, True], bins=3) == pytest.approx(0)

    def test_weights_worked_by_hand(self) -> None:
        # Bin 1 holds 0.2 (false, weight 3), gap 0.2 * 3; bin 2 holds 0.6 (true, weight 1), gap 0.4.
        error = expected_calibration_error([0.2, 0.6], [False, True], weights=[3, 1], bins=4)
        assert error == pytest.approx((0.6 + 0.4) / 4)

    def test_equal_predictions_share_a_bin_whatever_their_order(self) -> None:
        for real in ([True, True, False, False], [False, True, False, True]):
            assert expected_calibration_error([0.5] * 4, real, bins=2) == 0

    def test_certain_and_wrong_is_one(self) -> None:
        assert expected_calibration_error([0.0, 1.0], [True, False], bins=10) == 1

    @given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30), st.integers(1, 12))
    def test_it_lies_between_the_gap_of_the_means_and_one(
        self, pairs: list[tuple[float, bool]], bins: int
    ) -> None:
        predicted, real = zip(*pairs, strict=True)
        error = expected_calibration_error(predicted, real, bins=bins)
        assert abs(np.mean(predicted) - np.mean(real)) - 1e-9 <= error <= 1 + 1e-9


class TestAcceptanceThreshold:
    @pytest.mark.parametrize(
        ("acceptance", "wanted"), [(0.2, 0.9), (0.3, 0.7), (0.4, 0.7), (0.5, 0.5), (1.0, 0.1), (0.001, 0.9)]
    )
    def test_worked_by_hand(self, acceptance: float, wanted: float) -> None:
        assert acceptance_threshold([0.5, 0.1, 0.9, 0.3, 0.7], acceptance) == wanted

    def test_floating_point_does_not_let_one_more_through(self) -> None:
        scores = np.arange(1, 11) / 10
        assert acceptance_threshold(scores, 0.7) == 0.4

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.01, 1))
    def test_it_is_the_largest_that_lets_enough_through(self, scores: list[float], acceptance: float) -> None:
        values = np.array(scores)
        threshold = acceptance_threshold(values, acceptance)
        assert (values >= threshold).mean() >= acceptance - 1e-9
        higher = values[values > threshold]
        assert not len(higher) or (values >= higher.min()).mean() < acceptance


def test_the_map_finds_the_true_probability() -> None:
    # Two normal densities of spread 1 at +1 and -1: the log odds are exactly 2 x.
    calibration = fitted({"brick": sampled(1, 4000)}, {"brick": sampled(-1, 4000, seed=1)})
    brick = calibration.of("brick")
    assert brick.coef == pytest.approx(2, rel=0.1)
    assert brick.intercept == pytest.approx(0, abs=0.1)
    assert brick.ece is not None
    assert brick.ece < 0.02
    assert (brick.n_real, brick.n_generated, brick.pooled) == (4000, 4000, False)
    assert calibration.warnings == ()


def test_both_classes_weigh_the_same_whatever_their_numbers() -> None:
    brick = fitted({"brick": sampled(1, 400)}, {"brick": sampled(-1, 8000, seed=1)}).of("brick")
    assert brick.p_real(0.0) == pytest.approx(0.5, abs=0.05)
    assert brick.ece is not None
    assert brick.ece < 0.05


def test_the_unit_of_the_logits_does_not_matter() -> None:
    real, generated = sampled(1, 100), sampled(-1, 100, seed=1)
    one = fitted({"brick": real}, {"brick": generated}).of("brick")
    thousand = fitted({"brick": [1e3 * x for x in real]}, {"brick": [1e3 * x for x in generated]}).of("brick")
    assert thousand.coef * 1e3 == pytest.approx(one.coef, rel=1e-3)
    assert thousand.threshold == pytest.approx(one.threshold, rel=1e-3)


def test_the_threshold_counts_only_pictures_that_pass_the_checks() -> None:
    generated = [float(x) for x in range(20)]
    passed = [x >= 10 for x in generated]
    calibration = fitted({"brick": sampled(15, 50)}, {"brick": generated}, {"brick": passed}, acceptance=0.3)
    brick = calibration.of("brick")
    # Three of the ten logits from 10 to 19 reach 17.
    assert brick.threshold == brick.p_real(17.0)
    assert calibration.settings.acceptance == 0.3


def test_the_threshold_is_that_of_typical_pictures_and_the_map_is_not() -> None:
    """Half of the typical logits, 0 to 9, reach 5. Half of the logits compared with photos reach 15."""
    real, generated = sampled(15, 50), [float(x) for x in range(10, 20)]
    usual = fitted({"brick": real}, {"brick": generated}, acceptance=0.5).of("brick")
    typical = {"brick": [float(x) for x in range(10)]}
    brick = fitted({"brick": real}, {"brick": generated}, typical=typical, acceptance=0.5).of("brick")
    assert (brick.coef, brick.intercept, brick.n_generated) == (usual.coef, usual.intercept, 10)
    assert brick.threshold == brick.p_real(5.0)
    assert usual.threshold == usual.p_real(15.0)


def test_where_nothing_passes_the_checks_the_threshold_is_that_of_all() -> None:
    generated = [float(x) for x in range(20)]
    calibration = fitted({"brick": sampled(15, 50)}, {"brick": generated}, {"brick": [False] * 20})
    brick = calibration.of("brick")
    assert brick.threshold == brick.p_real(10.0)
    assert "no generated picture passes the checks" in calibration.warnings[0]


def test_separable_pictures_stay_finite() -> None:
    brick = fitted({"brick": sampled(50, 30)}, {"brick": sampled(-50, 30)}).of("brick")
    assert 0 < brick.coef < 10
    assert brick.p_real(50.0) > 0.9


def test_equal_logits_everywhere_leave_the_checks_to_decide() -> None:
    calibration = fitted({"brick": [3.0] * 20}, {"brick": [3.0] * 20})
    brick = calibration.of("brick")
    assert (brick.coef, brick.threshold, brick.p_real(3.0)) == (0, 0.5, 0.5)
    assert "cannot distinguish real from generated" in calibration.warnings[0]


def test_a_category_with_few_photos_takes_the_common_map() -> None:
    real = {"brick": sampled(1, 300), "car": sampled(1, 9), "tower": []}
    generated = {"brick": sampled(-1, 300), "car": sampled(-1, 300), "tower": sampled(-1, 300)}
    calibration = fitted(real, generated)
    brick, car, tower = (calibration.of(name) for name in ("brick", "car", "tower"))
    assert (brick.pooled, car.pooled, tower.pooled) == (False, True, True)
    assert (car.coef, car.intercept) == (tower.coef, tower.intercept)
    assert car.coef > 0
    assert car.ece is not None
    assert tower.ece is None
    assert [warning.split(":")[0] for warning in calibration.warnings] == ["car", "tower"]
    assert "only 9 real and 300 generated" in calibration.warnings[0]


def test_categories_with_few_photos_have_one_threshold() -> None:
    """It is that of their passing pictures together: of 20 pictures each, 97 % would be all."""
    real = {"brick": sampled(1, 300), "car": sampled(1, 9), "tower": []}
    generated = {name: sampled(-1, 300) for name in real}
    typical = {"brick": [-9.0] * 20, "car": [-2.0] + [1.0] * 19, "tower": [-3.0, -1.0] + [2.0] * 18}
    passed = {name: [number > 0 or name != "tower" for number in range(20)] for name in real}
    calibration = fitted(real, generated, passed, typical=typical, acceptance=0.97)
    brick, car, tower = (calibration.of(name) for name in ("brick", "car", "tower"))
    # 38 of the 39 passing pictures reach the second lowest score
    assert car.threshold == tower.threshold == car.p_real(-1.0)
    assert brick.threshold == brick.p_real(-9.0)


def test_a_category_with_few_photos_borrows_from_the_others() -> None:
    """A few logits of its own say nearly nothing. With more of its own, the others count less."""
    others = {name: (sampled(1, 100, seed=2), sampled(-1, 100, seed=3)) for name in ("brick", "car")}

    def coef(count: int, *, alone: bool = False) -> float:
        sample_sets = {
            "tower": (sampled(0.2, count), sampled(-0.2, count, seed=1)),
            **({} if alone else others),
        }
        real, generated = ({name: pair[side] for name, pair in sample_sets.items()} for side in (0, 1))
        tower = fitted(real, generated).of("tower")
        assert not tower.pooled
        return tower.coef

    # densities at +-m have the log odds 2 m x: 2 for the others, 0.4 for the tower
    assert coef(20, alone=True) < 0.9
    assert coef(20) > 1.1
    assert coef(8000) == pytest.approx(coef(8000, alone=True), abs=0.02)
    assert coef(8000) == pytest.approx(0.4, abs=0.05)


def test_photos_of_others_count_as_forty_of_its_own_at_most() -> None:
    """Forty own photos weigh as much as any number of others, so the map is in the middle."""
    own = {"tower": sampled(1.5, BORROWED_PHOTOS)}, {"tower": sampled(-0.5, BORROWED_PHOTOS, seed=1)}
    moved = [[x - 1.0 for x in side["tower"]] for side in own]
    maps = [
        fitted(own[0] | {"car": moved[0] * times}, own[1] | {"car": moved[1] * times}).of("tower")
        for times in (1, 50)
    ]
    # own densities meet at 0.5, those of the others at -0.5
    few, many = (-each.intercept / each.coef for each in maps)
    assert few == pytest.approx(0.0, abs=0.2)
    assert many == pytest.approx(few, abs=0.05)


def test_a_category_scored_worse_than_chance_takes_the_common_map() -> None:
    real = {"brick": sampled(1, 300), "car": sampled(-0.5, 100)}
    generated = {"brick": sampled(-1, 300), "car": sampled(0.5, 100)}
    calibration = fitted(real, generated)
    car = calibration.of("car")
    assert car.pooled
    assert car.coef > 0
    assert "car: the discriminator is worse than chance" in calibration.warnings[0]


def test_scores_worse_than_chance_everywhere_decide_nothing() -> None:
    calibration = fitted({"brick": sampled(-1, 50)}, {"brick": sampled(1, 50)})
    assert calibration.of("brick").p_reals([-9.0, 9.0]).tolist() == [0.5, 0.5]
    assert calibration.of("brick").threshold == 0.5
    assert len(calibration.warnings) == 2


def test_the_same_input_gives_the_same_calibration() -> None:
    real, generated = {"b": sampled(1, 40), "a": sampled(0, 40)}, {"b": sampled(-1, 40), "a": sampled(-1, 40)}
    swapped = fitted(dict(reversed(real.items())), dict(reversed(generated.items())))
    assert fitted(real, generated) == swapped


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_refused(wrong: float) -> None:
    with pytest.raises(ModelError, match="2 of 40 logits of 'brick' are not finite"):
        fitted({"brick": sampled(1, 20)}, {"brick": [*sampled(-1, 18), wrong, wrong]})


def test_missing_and_mismatched_input_is_named() -> None:
    with pytest.raises(ValueError, match="no real photo"):
        fitted({}, {"brick": sampled(-1, 20)})
    with pytest.raises(ValueError, match="no generated picture of brick"):
        fitted({"brick": sampled(-1, 20)}, {"brick": []})
    with pytest.raises(ValueError, match="20 logits of typical pictures, but 1 results"):
        fitted({"brick": sampled(1, 20)}, {"brick": sampled(-1, 20)}, {"brick": [True]})
    with pytest.raises(ValueError, match="no limits for the category 'brick'"):
        fit_calibration(
            real_logits={"brick": [1.0]},
            generated_logits={"brick": [1.0]},
            typical_logits={"brick": [1.0]},
            typical_passed={"brick": [True]},
            limits={},
        )
