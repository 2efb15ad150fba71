"""Attempts, near copies and broken pictures of a shard."""

import math
from dataclasses import replace
from typing import Any

import pytest

from tests.models import (
    change_weights,
    nan_model,
    tiny_model,
    tiny_with_layouts,
)
from tests.toygan.generation.shard_runs import by_slot, compute, with_limits
from tests.toygan.generation.shard_runs import engine as engine
from tests.toygan.generation.shard_runs import with_model as with_model
from tests.toygan.generation.slots import slot, slots
from toygan.approval.checks import is_near_copy
from toygan.errors import ModelError
from toygan.generation.engine import Engine


def test_a_shard_makes_as_many_attempts_as_its_plan_allows(engine: Engine, with_model: Any) -> None:
    wanted = [slot(number, first_attempt=4 - number, attempts=number) for number in (1, 2, 3)]
    rows, _ = compute(with_model(with_limits(engine.model, threshold=1.0)), wanted)
    assert [len(tried) for tried in by_slot(rows).values()] == [1, 2, 3]
    assert {tried[-1]["attempt"] for tried in by_slot(rows).values()} == {3}


def test_only_a_better_candidate_than_the_last_one_goes_to_review(engine: Engine, with_model: Any) -> None:
    engine = with_model(with_limits(engine.model, threshold=1.0))
    first, _ = compute(engine, slots(12))
    best = {sku: max(row["p_real"] for row in tried) for (sku, _), tried in by_slot(first).items()}
    wanted = [slot(number, first_attempt=4, review_p_real=best[f"sku-{number:04d}"]) for number in range(12)]
    again, objects = compute(engine, wanted)
    found = {
        sku: [row["p_real"] for row in tried if row["decision"] == "review"]
        for (sku, _), tried in by_slot(again).items()
    }
    assert 0 < len(objects) < 12
    for sku, tried in by_slot(again).items():
        top = max(row["p_real"] for row in tried)
        assert found[sku[0]] == ([top] if top > best[sku[0]] else [])


def test_who_reads_no_titles_guesses_no_shape(with_model: Any) -> None:
    """It was asked for one of the category, as a model without layouts of its own is."""
    rows, _ = compute(with_model(with_limits(tiny_with_layouts().load(), threshold=0.0)), slots(3))
    assert [(row["decision"], row["reasons"]) for row in rows] == [("approved", [])] * 3
    assert all("layout_similarity" not in row["conditions"] for row in rows)


def test_a_near_copy_of_a_live_picture_is_refused(engine: Engine) -> None:
    rows, _ = compute(engine, slots(30))
    approved = [row for row in rows if row["decision"] == "approved" and row["attempt"] == 0]
    assert len(approved) > 5
    live = {row["sku"]: row["phash"] for row in approved}
    again = [slot(number, sibling_phashes=(live[sku],)) for number, sku in numbered(live)]
    for tried in by_slot(compute(engine, again)[0]).values():
        assert tried[0]["reasons"] == ["near_copy"]
        assert tried[0]["decision"] in ("rejected", "review")
        assert len(tried) > 1
        for row in tried[1:]:
            assert ("near_copy" in row["reasons"]) == is_near_copy(row["phash"], [live[row["sku"]]])


def numbered(skus: Any) -> list[tuple[int, str]]:
    return [(int(sku.removeprefix("sku-")), sku) for sku in skus]


def test_pictures_of_one_product_in_one_run_are_no_copies_of_each_other(with_model: Any) -> None:
    """Without latents every picture of a product is the same: one is approved, the others are copies."""
    same = with_limits(tiny_model(truncation=0.0).load(), threshold=0.0)
    wanted = [slot(number, image_index=index) for number in range(5) for index in range(3)]
    rows, objects = compute(with_model(same), wanted)
    for (_, index), tried in by_slot(rows).items():
        if index == 0:
            assert [row["decision"] for row in tried] == ["approved"]
        else:
            assert [row["reasons"] for row in tried] == [["near_copy"]] * 4
            # Batches of other shapes round scores in another way, so any of the four may be the best.
            assert sorted(row["decision"] for row in tried) == ["rejected"] * 3 + ["review"]
    assert len(objects) == 15


def test_a_slot_is_compared_with_its_own_siblings_alone(with_model: Any) -> None:
    """Both pictures are made again. Each looks like the one that it replaces, and not like its sibling."""
    engine = with_model(with_limits(tiny_model().load(), threshold=0.0))
    (first,), (second,) = by_slot(
        compute(engine, [slot(0, image_index=index) for index in range(2)])[0]
    ).values()
    assert not is_near_copy(first["phash"], [second["phash"]])
    again = [
        slot(0, image_index=0, sibling_phashes=(second["phash"],)),
        slot(0, image_index=1, sibling_phashes=(first["phash"],)),
    ]
    rows, _ = compute(engine, again)
    assert [(row["decision"], row["phash"]) for row in rows] == [
        ("approved", first["phash"]),
        ("approved", second["phash"]),
    ]


def test_another_product_may_look_the_same(with_model: Any) -> None:
    same = with_limits(tiny_model(truncation=0.0).load(), threshold=0.0)
    rows, _ = compute(with_model(same), [slot(0), slot(6)])
    assert rows[0]["phash"] == rows[1]["phash"]
    assert [row["decision"] for row in rows] == ["approved", "approved"]


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_numbers_that_are_none_are_rejected_and_nothing_is_stored(with_model: Any, network: str) -> None:
    broken = nan_model()
    if network == "discriminator":
        broken = change_weights(tiny_model(), network, lambda tensors: tensors["logit.bias"].fill_(math.nan))
    rows, objects = compute(with_model(broken.load()), slots(20))
    assert objects == {}
    assert len(rows) == 80
    for row in rows:
        assert (row["decision"], row["reasons"]) == ("rejected", ["not_finite"])
        for name in ("logit", "p_real", "phash", "fill_ratio", "background_white", "colour_delta_e"):
            assert row[name] is None
        assert row["image_uri"] is row["sha256"] is None


def test_without_a_calibration_nothing_is_generated(engine: Engine, with_model: Any) -> None:
    with pytest.raises(ModelError, match="not calibrated"):
        compute(with_model(replace(engine.model, calibration=None)), slots(1))


def test_a_shard_without_slots_is_done(engine: Engine) -> None:
    assert compute(engine, []) == ([], {})
