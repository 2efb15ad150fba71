import pytest

from toygan.approval.checks import Reason
from toygan.approval.policy import (
    another_attempt_helps,
    pick_for_review,
    reasons_against,
    reasons_before_generation,
)


def test_a_candidate_without_reasons_is_approved() -> None:
    assert reasons_against(finite=True, p_real=0.5, threshold=0.5) == []


def test_a_score_below_the_threshold_is_a_reason() -> None:
    assert reasons_against(finite=True, p_real=0.4999, threshold=0.5) == ["score_below_threshold"]


def test_a_score_that_is_not_finite_is_below_every_threshold() -> None:
    assert reasons_against(finite=True, p_real=float("nan"), threshold=0.0) == ["score_below_threshold"]


def test_nothing_else_is_said_about_a_picture_that_is_not_finite() -> None:
    reasons = reasons_against(
        finite=False, failed_checks=["blank"], near_copy=True, p_real=0.9, threshold=0.5
    )
    assert reasons == ["not_finite"]


def test_all_reasons_are_kept_in_order() -> None:
    reasons = reasons_against(
        finite=True, failed_checks=["colour_off"], near_copy=True, p_real=0.1, threshold=0.5
    )
    assert reasons == ["colour_off", "near_copy", "score_below_threshold"]


@pytest.mark.parametrize(
    ("p_reals", "wanted"),
    [
        ([0.1, 0.7, 0.3], 1),
        ([0.7, 0.2, 0.7], 0),
        ([None, 0.0], 1),
        ([float("nan"), 0.2], 1),
        ([None, None], None),
        ([float("nan")], None),
        ([], None),
    ],
)
def test_the_best_finite_candidate_goes_to_review(p_reals: list[float | None], wanted: int | None) -> None:
    assert pick_for_review(p_reals) == wanted


def test_one_that_is_no_better_than_the_last_one_does_not() -> None:
    assert pick_for_review([0.2, 0.5], better_than=0.4) == 1
    assert pick_for_review([0.2, 0.5], better_than=0.5) is None
    assert pick_for_review([None], better_than=0.0) is None


@pytest.mark.parametrize(("similarity", "against"), [(None, []), (0.999, []), (0.998, ["shape_guessed"])])
def test_the_shape_of_another_product_is_known_before_drawing(
    similarity: float | None, against: list[str]
) -> None:
    assert reasons_before_generation(best_similarity=similarity) == against


def test_a_colour_that_nobody_knows_is_known_before_drawing() -> None:
    assert reasons_before_generation(best_similarity=None, lacks_colour=True) == ["colour_unknown"]
    assert reasons_before_generation(best_similarity=0.5, lacks_colour=True) == [
        "colour_unknown",
        "shape_guessed",
    ]


def test_what_was_known_before_drawing_is_a_reason_once() -> None:
    reasons = reasons_against(
        finite=True,
        before_generation=["shape_guessed"],
        failed_checks=["shape_guessed"],
        p_real=1,
        threshold=0,
    )
    assert reasons == ["shape_guessed"]


@pytest.mark.parametrize("has_own_shape", [True, False])
@pytest.mark.parametrize(
    ("reasons", "p_reals", "helps"),
    [
        (["score_below_threshold"], [0.31], True),
        (["score_below_threshold"], [0.3, 0.43], True),
        (["score_below_threshold"], [0.1, 0.46, 0.1], True),
        (["score_below_threshold"], [0.1, 0.44, 0.1], False),
        (["blank", "fill_ratio_low"], [0.9], False),
        (["fill_ratio_high"], [0.9], False),
        (["outline_lost", "score_below_threshold"], [0.4], False),
        (["not_finite"], [None], True),
        (["near_copy"], [0.9], True),
    ],
)
def test_another_attempt_is_made_where_it_may_help(
    reasons: list[Reason], p_reals: list[float | None], helps: bool, has_own_shape: bool
) -> None:
    assert another_attempt_helps(reasons, p_reals, threshold=0.5, has_own_shape=has_own_shape) is helps


@pytest.mark.parametrize(
    ("reasons", "p_reals"),
    [
        (["score_below_threshold"], [0.01]),
        (["score_below_threshold"], [0.3, 0.1]),
        (["colour_off"], [0.9]),
        (["background_not_white", "score_below_threshold"], [0.4]),
    ],
)
def test_another_layout_helps_where_other_shading_does_not(
    reasons: list[Reason], p_reals: list[float | None]
) -> None:
    assert another_attempt_helps(reasons, p_reals, threshold=0.5, has_own_shape=False)
    assert not another_attempt_helps(reasons, p_reals, threshold=0.5, has_own_shape=True)
