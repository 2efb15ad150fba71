"""What people decide moves thresholds, and the probe where that helps."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models import ANYTHING
from toygan.approval.people import DecidedPictures, _best_shift, agreement_with, fit_to_people
from toygan.artifact.calibration import (
    Agreement,
    Calibration,
    CalibrationSettings,
    CategoryCalibration,
    sigmoid,
)
from toygan.artifact.probe_weights import BACKBONE, Floats, ProbeWeights
from toygan.errors import BadInput

NAMES = ("brick", "wheel")
WIDTH = 12


def calibration(*, with_probe: bool = True) -> Calibration:
    """A calibration whose score is the first number of the evidence, and whose thresholds are 0.5."""
    category = CategoryCalibration(
        coef=1.0,
        intercept=0.0,
        threshold=0.5,
        pooled=False,
        ece=0.0,
        n_real=1,
        n_generated=1,
        limits=ANYTHING,
    )
    probe = ProbeWeights(backbone=BACKBONE, weights=(1.0,) + (0.0,) * (WIDTH - 1), intercept=0.0)
    return Calibration(
        categories=dict.fromkeys(NAMES, category),
        ece=0.0,
        settings=CalibrationSettings(),
        probe=probe if with_probe else None,
    )


def decided(evidence: Floats, is_approved: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> DecidedPictures:
    count = len(evidence)
    return DecidedPictures(
        categories=np.array([NAMES[row % 2] for row in range(count)]),
        skus=np.array([f"sku-{row // 2}" for row in range(count)]),
        is_approved=is_approved,
        logits=evidence[:, 0],
        evidence=evidence,
    )


def evidence_of(count: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=(count, WIDTH))


def test_thresholds_follow_people_who_are_stricter() -> None:
    evidence = evidence_of(120)
    strict = decided(evidence, evidence[:, 0] > 1.0)
    fitted = fit_to_people(calibration(), strict)
    assert fitted.agreement is not None
    assert fitted.agreement.after > 0.95 > 0.75 > fitted.agreement.before
    for name in NAMES:
        assert fitted.categories[name].threshold == pytest.approx(sigmoid(np.array(1.0)), abs=0.1)
    assert agreement_with(calibration(), strict) == fitted.agreement.before


@pytest.mark.parametrize(("approved_of_ten", "is_approved"), [(6, False), (8, True)])
def test_pictures_are_approved_if_people_approve_three_of_four(
    approved_of_ten: int, is_approved: bool
) -> None:
    """People approve all pictures with scores above 1, none below -1, and some of those in between."""
    scores = np.repeat([-2.0, 0.0, 2.0], 400)
    of_ten = np.arange(1200) // 2 % 10  # of each category
    approves = (scores > 1) | ((scores == 0) & (of_ten < approved_of_ten))
    pictures = replace(decided(scores[:, None], approves), evidence=None)
    fitted = fit_to_people(calibration(with_probe=False), pictures)
    for name in NAMES:
        threshold = fitted.categories[name].threshold
        assert (threshold <= 0.5) == is_approved
        assert sigmoid(np.array(-2.0)) < threshold <= sigmoid(np.array(2.0))


def test_each_category_gets_a_threshold_of_its_own() -> None:
    evidence = evidence_of(200)
    is_wheel = np.arange(200) % 2 == 1
    fitted = fit_to_people(calibration(), decided(evidence, evidence[:, 0] > np.where(is_wheel, 0.8, -0.8)))
    assert fitted.categories["brick"].threshold < 0.4
    assert fitted.categories["wheel"].threshold > 0.6


@pytest.mark.slow
def test_a_probe_learns_what_the_score_does_not_know() -> None:
    """People look at the third number of the evidence, the score at the first one only."""
    evidence = evidence_of(300)
    fitted = fit_to_people(calibration(), decided(evidence, evidence[:, 2] > 0))
    assert fitted.agreement is not None
    assert fitted.agreement.probe == calibration().probe
    assert fitted.agreement.after > fitted.agreement.before + 0.2
    assert fitted.without_people() == calibration()
    new = evidence_of(300, seed=1)
    assert fitted.probe is not None
    unseen = replace(decided(new, new[:, 2] > 0), logits=fitted.probe.logits(new))
    assert agreement_with(fitted, unseen) > 0.8


def test_one_product_with_most_decisions_is_no_obstacle() -> None:
    """Without it, each answer has fewer decisions than there are folds."""
    evidence = evidence_of(20)
    skus = np.array(["a"] * 16 + ["b", "c", "d", "e"])
    is_approved = np.array([True, False] * 8 + [True, True, False, False])
    pictures = replace(decided(evidence, is_approved), skus=skus)
    assert set(fit_to_people(calibration(), pictures).categories) == set(NAMES)


@pytest.mark.slow
def test_decisions_by_chance_change_nothing_or_help() -> None:
    evidence = evidence_of(200)
    by_chance = np.random.default_rng(5).random(200) < 0.5
    before = calibration()
    fitted = fit_to_people(before, decided(evidence, by_chance))
    assert fitted.agreement is not None
    assert fitted.agreement.after >= fitted.agreement.before
    if fitted.agreement.after == fitted.agreement.before:
        assert replace(fitted, agreement=None) == before


def test_without_evidence_only_thresholds_move() -> None:
    evidence = evidence_of(100)
    pictures = replace(decided(evidence, evidence[:, 0] > 1.0), evidence=None)
    fitted = fit_to_people(calibration(with_probe=False), pictures)
    assert fitted.probe is None
    assert fitted.agreement is not None
    assert fitted.agreement.probe is None
    assert fitted.categories["brick"].threshold > 0.6


@pytest.mark.parametrize(("count", "approved"), [(10, 5), (40, 0), (40, 40)])
def test_few_decisions_or_one_kind_are_refused(count: int, approved: int) -> None:
    evidence = evidence_of(count)
    with pytest.raises(BadInput, match=f"approved {approved} and rejected {count - approved}"):
        fit_to_people(calibration(), decided(evidence, np.arange(count) < approved))


@pytest.mark.parametrize("probe", [None, calibration().probe])
def test_the_agreement_is_written_and_read(probe: ProbeWeights | None) -> None:
    agreement = Agreement(decisions=30, before=0.5, after=0.75, thresholds={"brick": 0.25}, probe=probe)
    whole = replace(calibration(), agreement=agreement)
    assert Calibration.from_json(whole.to_json()) == whole
    assert whole.without_people().of("brick").threshold == 0.25


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=1, max_size=12))
def test_no_other_limit_agrees_with_more_decisions(pictures: list[tuple[int, bool]]) -> None:
    margins = np.array([float(margin) for margin, _ in pictures])
    approved = np.array([is_approved for _, is_approved in pictures])
    found = _best_shift(margins, approved, np.ones(len(margins)))

    def agreeing(limit: float) -> int:
        return int(((margins >= limit) == approved).sum())

    assert agreeing(found) == max(agreeing(limit) for limit in np.arange(-6.5, 7.0, 0.5))
