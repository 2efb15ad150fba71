"""What people's decisions change in the plan of the next night."""

from pathlib import Path
from typing import Any

import pytest

from catalog_schemas.images import APPROVED, REVIEW
from tests.catalog_schemas.tables import product, write_catalog
from tests.toygan.generation.runs import candidate
from tests.toygan.planning.plans import freeze, keys
from tests.toygan.review.shop import commit
from toygan.planning.plan import Slot
from toygan.review.record import decide
from toygan.storage.keys import review_key
from toygan.storage.memory import MemoryStore


class Shop:
    """Three products: `a` has a live picture, `b` is exhausted with a candidate, `c` has never been tried."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        self.catalog = write_catalog(folder / "catalog.parquet", [product(sku=sku) for sku in "abc"])
        slots = {slot.sku: slot for slot in self.plan()}
        self.a = self._row(slots["a"], "run-1", 1)
        self.b = self._row(slots["b"], "run-1", 1, REVIEW)
        last = self._row(slots["b"], "run-1", 3)
        last |= {"decision": "rejected", "image_uri": None, "sha256": None}
        commit(self.store, "run-1", self.a, self.b, last | {"image_id": "0" * 20})

    def plan(self, **settings: Any) -> list[Slot]:
        """The slots of the next night."""
        self.nights = getattr(self, "nights", 0) + 1
        return freeze(self.store, self.catalog, f"plan-{self.nights}", **settings)[1]

    def night(self, slot: Slot, decision: str = APPROVED, **changes: Any) -> dict[str, Any]:
        """A run that makes the next attempt at one slot."""
        row = self._row(slot, f"night-{self.nights}", slot.first_attempt, decision) | changes
        commit(self.store, row["run_id"], row)
        return row

    def say(self, decision: str, row: dict[str, Any]) -> None:
        decide(self.store, decision, [row["image_id"]], by="Ann", reason=None)

    def _row(self, slot: Slot, run_id: str, attempt: int, decision: str = APPROVED) -> dict[str, Any]:
        row = candidate(slot, run_id, attempt=attempt) | {"decision": decision}
        if decision == REVIEW:
            row |= {"image_uri": review_key(run_id, row["image_id"], "webp"), "p_real": 0.3}
        return row


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_without_decisions_only_the_new_product_is_planned(shop: Shop) -> None:
    assert keys(shop.plan()) == [("c", 0)]


def test_a_rejected_slot_gets_its_next_attempt(shop: Shop) -> None:
    shop.say("reject", shop.a)
    again = {slot.sku: slot for slot in shop.plan()}
    assert (again["a"].first_attempt, again["a"].attempts) == (2, 4)
    shop.night(again["a"])
    assert keys(shop.plan()) == [("c", 0)]


def test_a_rejected_candidate_ends_exhaustion_once(shop: Shop) -> None:
    shop.say("reject", shop.b)
    again = {slot.sku: slot for slot in shop.plan()}
    assert (again["b"].first_attempt, again["b"].attempts) == (4, 4)
    assert again["b"].review_p_real is None
    shop.night(again["b"], REVIEW)
    assert keys(shop.plan()) == [("c", 0)]


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_redraw_is_planned_once_and_keeps_the_picture(shop: Shop, name: str) -> None:
    shop.say("redraw", getattr(shop, name))
    slots = {slot.sku: slot for slot in shop.plan()}
    assert sorted(slots) == sorted({"c", name})
    shop.night(slots[name])
    assert keys(shop.plan()) == [("c", 0)]


def test_an_approval_after_a_redraw_ends_the_wish(shop: Shop) -> None:
    shop.say("redraw", shop.b)
    shop.say("approve", shop.b)
    assert keys(shop.plan()) == [("c", 0)]


def test_an_approved_candidate_stays_until_row_or_model_changes(shop: Shop, tmp_path: Path) -> None:
    shop.say("approve", shop.b)
    assert keys(shop.plan()) == [("c", 0)]
    assert keys(shop.plan(mode="retry")) == [("c", 0)]
    assert keys(shop.plan(mode="all")) == [("a", 0), ("c", 0)]
    assert keys(shop.plan(mode="refresh", models={"main": "toybricks@ffffffffffff"})) == [
        ("a", 0),
        ("b", 0),
        ("c", 0),
    ]
    changed = [product(sku=sku, title=f"New {sku}") for sku in "abc"]
    shop.catalog = write_catalog(tmp_path / "changed.parquet", changed)
    assert keys(shop.plan()) == [("a", 0), ("b", 0), ("c", 0)]


def test_a_rejected_picture_is_not_made_again(shop: Shop) -> None:
    shop.say("reject", shop.a)
    for mode in ("missing", "all", "retry", "refresh"):
        [slot] = [slot for slot in shop.plan(mode=mode) if slot.sku == "a"]
        assert slot.first_attempt == 2


def test_a_rejected_picture_is_no_more_wanted_after_its_row_changes(shop: Shop, tmp_path: Path) -> None:
    """The seeds of the new row are those of the old one, so its first attempt would be the same picture."""
    edited = [product(sku=sku, title=f"New {sku}", images_wanted=1 + (sku == "a")) for sku in "abc"]
    shop.catalog = write_catalog(tmp_path / "changed.parquet", edited)
    shop.say("reject", shop.a)
    assert [(slot.sku, slot.sibling_phashes) for slot in shop.plan()] == [
        ("a", (shop.a["phash"],)),
        ("a", (shop.a["phash"],)),
        ("b", ()),
        ("c", ()),
    ]
    shop.say("approve", shop.a)
    assert [slot.sibling_phashes for slot in shop.plan() if slot.image_index == 0] == [(), (), ()]


def test_a_rejected_candidate_that_nobody_measured_hinders_none(shop: Shop) -> None:
    unmeasured = shop.night(shop.plan()[0], REVIEW, phash=None)
    shop.say("reject", unmeasured)
    assert [(slot.sku, slot.sibling_phashes) for slot in shop.plan()] == [("c", ())]
