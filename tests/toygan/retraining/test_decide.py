"""The rules of a promotion, on figures worked by hand: standard errors of 3 and 4 make one of 5 together."""

from dataclasses import replace

import pytest

from tests.toygan.retraining.evaluations import Kid, evaluation
from toygan.errors import BadInput
from toygan.evaluation.result import Evaluation, Scores
from toygan.retraining.decide import Decision, decide
from toygan.retraining.request import Limits

CATEGORIES = ("brick", "car")
LIMITS = Limits(recall_loss=0.02, category_loss=0.1)


def decided(challenger: Evaluation, champion: Evaluation) -> Decision:
    return decide(challenger, champion, categories=CATEGORIES, limits=LIMITS)


@pytest.mark.parametrize(
    ("challenger", "promoted"),
    [
        ((0.044, 0.003), True),  # by 6, and 5 is the standard error of the difference
        ((0.0451, 0.003), False),  # by 4.9
        ((0.050, 0.0), False),
        ((0.060, 0.003), False),
        ((-0.001, 0.003), True),  # the unbiased estimate of a very good model may be negative
    ],
)
def test_kid_has_to_be_better_beyond_the_standard_error(challenger: Kid, promoted: bool) -> None:
    decision = decided(evaluation(challenger), evaluation((0.050, 0.004)))
    assert decision.promoted == promoted
    assert [rule.holds for rule in decision.rules] == [promoted, True, True, True]


def test_the_reasons_tell_the_figures() -> None:
    decision = decided(evaluation((0.044, 0.003), 0.49), evaluation((0.050, 0.004), 0.5))
    assert [rule.reason for rule in decision.rules] == [
        "KID x 1000: 44.0 ± 3.0, champion 50.0 ± 4.0; it must fall by more than 5.0",
        "recall: 0.490, champion 0.500; it may fall by at most 0.02",
        "brick: KID x 1000 50.0 ± 1.0, champion 50.0 ± 1.0; it may rise by at most 6.4",
        "car: KID x 1000 50.0 ± 1.0, champion 50.0 ± 1.0; it may rise by at most 6.4",
    ]


@pytest.mark.parametrize(("recall", "promoted"), [(0.9, True), (0.49, True), (0.47, False), (0.0, False)])
def test_recall_may_hardly_fall(recall: float, promoted: bool) -> None:
    decision = decided(evaluation((0.01, 0.001), recall), evaluation((0.05, 0.001), 0.5))
    assert decision.promoted == promoted


@pytest.mark.parametrize(
    ("car", "promoted"),
    [
        ((0.020, 0.003), True),
        ((0.059, 0.003), True),  # by 9: a tenth of 50 and the standard error of 5 are allowed
        ((0.061, 0.003), False),
    ],
)
def test_no_category_may_become_worse(car: Kid, promoted: bool) -> None:
    champion = evaluation((0.05, 0.001), categories={"brick": (0.05, 0.001), "car": (0.050, 0.004)})
    challenger = evaluation((0.01, 0.001), categories={"brick": (0.01, 0.001), "car": car})
    assert decided(challenger, champion).promoted == promoted


def test_of_a_champion_without_a_fault_nothing_negative_is_allowed() -> None:
    champion = evaluation((0.05, 0.001), categories={"brick": (0.05, 0.001), "car": (-0.010, 0.004)})
    for kid, promoted in (((-0.006, 0.003), True), ((-0.004, 0.003), False)):
        challenger = evaluation((0.01, 0.001), categories={"brick": (0.01, 0.001), "car": kid})
        assert decided(challenger, champion).promoted == promoted


def test_a_category_that_cannot_be_measured_is_no_good_sign() -> None:
    few = {"brick": (0.01, 0.001), "car": None}
    decision = decided(
        evaluation((0.01, 0.001), categories=few, photos=4), evaluation(categories=few, photos=4)
    )
    assert not decision.promoted
    assert decision.rules[-1].reason == "car: 4 photos of val, too few to say whether it has become worse"
    gone = {"brick": (0.01, 0.001)}
    decision = decided(evaluation((0.01, 0.001), categories=gone), evaluation(categories=gone))
    assert decision.rules[-1].reason == "car: 0 photos of val, too few to say whether it has become worse"


def test_pictures_that_are_too_few_are_not_called_photos() -> None:
    few = evaluation((0.01, 0.001), categories={"brick": (0.01, 0.001), "car": None}, photos=20)
    car = replace(few.categories["car"], pictures=Scores(pictures=6))
    few = replace(few, categories={**few.categories, "car": car})
    reason = decided(few, few).rules[-1].reason
    assert reason == "car: 6 generated pictures of a model, too few to say whether it has become worse"


def test_without_figures_nothing_is_promoted() -> None:
    decision = decided(evaluation(None, None), evaluation(None, None))
    assert [rule.holds for rule in decision.rules] == [False, False, True, True]


def test_figures_of_other_features_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="feature_network"):
        decided(replace(evaluation(), feature_network="another"), evaluation())


@pytest.mark.parametrize("name", ["recall_loss", "category_loss"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_limits_are_shares(name: str, value: float) -> None:
    with pytest.raises(BadInput, match=name):
        Limits(**{name: value})
