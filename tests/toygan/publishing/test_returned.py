"""Products that left the catalog for a night and are back."""

import itertools
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from catalog_schemas.decisions import read_decisions
from catalog_schemas.images import APPROVED, REJECTED, REVIEW, read_current
from tests.catalog_schemas.tables import product, write_catalog
from tests.toygan.generation.runs import candidate
from tests.toygan.planning.plans import freeze
from tests.toygan.review.shop import commit, live
from tests.toygan.review.turns import Stretches
from toygan.errors import BadInput
from toygan.planning.plan import Slot
from toygan.planning.pruning import marked_approval, write_pruning
from toygan.planning.summaries import read_summaries
from toygan.publishing import survey
from toygan.publishing.commit import complete_open_runs
from toygan.publishing.retire import NOT_IN_CATALOG, find_gone, retire
from toygan.publishing.returned import bring_back
from toygan.publishing.verify import prune, verify
from toygan.review.gallery import Filter, Gallery
from toygan.review.record import decide
from toygan.storage.keys import CURRENT_KEY, DECIDED_KEY, plan_manifest_key, returned_key, review_key
from toygan.storage.memory import MemoryStore
from toygan.storage.store import ObjectStore

HERE = ("doll", "car")
OPERATIONS = 45  # about as many as a prune makes


class Shop:
    """The machine approved the picture of the doll. Ann approved that of the car, after four attempts."""

    def __init__(self, folder: Path) -> None:
        self.store, self.folder, self.nights = MemoryStore(), folder, 0
        self.rows = {sku: product(sku=sku) for sku in (*HERE, "other")}
        slots = {slot.sku: slot for slot in self.night(*HERE)}
        self.doll = self.row(slots["doll"], APPROVED)
        self.car = self.row(slots["car"], REVIEW)
        last = self.row(slots["car"], REJECTED, attempt=3)
        commit(self.store, "night-1", self.doll, self.car, last, self.row(slots["other"], APPROVED))
        self.decide("approve", self.car)

    def night(self, *present: str) -> list[Slot]:
        """Returns the slots that the run plans. Withdraws what is gone."""
        self.nights += 1
        run_id = f"night-{self.nights}"
        rows = [self.rows[sku] for sku in (*present, "other")]
        path = write_catalog(self.folder / f"{run_id}.parquet", rows)
        gone = find_gone(self.store, str(path), {})
        self.returned = bring_back(self.store, run_id, read_summaries(self.store), str(path), {}, 1)
        slots = freeze(self.store, path, run_id)[1]
        retire(self.store, run_id, {NOT_IN_CATALOG: gone.pictures})
        return slots

    def row(self, slot: Slot, decision: str, **changes: Any) -> dict[str, Any]:
        """The candidate that the last night made for a slot."""
        run_id = f"night-{self.nights}"
        row = candidate(slot, run_id, **changes)
        row["image_id"] = sha256(f"{slot.sku} {run_id} {row['attempt']}".encode()).hexdigest()[:20]
        if decision == REJECTED:
            return row | {"decision": decision, "image_uri": None, "sha256": None}
        digest = sha256(row["image_id"].encode()).hexdigest()
        uri = review_key(run_id, row["image_id"], "webp")
        if decision == APPROVED:
            uri = f"images/{slot.category}/{slot.sku}/{row['image_id']}.webp"
        return row | {"decision": decision, "sha256": digest, "image_uri": uri}

    def make(self, slot: Slot, decision: str) -> dict[str, Any]:
        """Ends the last night with a candidate for a slot."""
        row = self.row(slot, decision)
        commit(self.store, row["run_id"], row)
        return row

    def decide(self, decision: str, row: dict[str, Any]) -> None:
        decide(self.store, decision, [row["image_id"]], by="Ann", reason=None)

    def live(self) -> dict[str, tuple[str, str]]:
        return {sku: found for (sku, _), found in live(self.store).items() if sku != "other"}

    @property
    def both(self) -> dict[str, tuple[str, str]]:
        return {"doll": (self.doll["image_id"], "machine"), "car": (self.car["image_id"], "Ann")}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_pictures_come_back_with_their_products(shop: Shop) -> None:
    assert shop.live() == shop.both
    assert shop.night() == []
    assert shop.live() == {}
    assert (shop.night(*HERE), shop.returned) == ([], 2)
    assert shop.live() == shop.both
    assert (shop.night(*HERE), shop.returned) == ([], 0)
    assert verify(shop.store).problems == ()
    assert all(key.startswith(".tmp/") for key in prune(shop.store))
    # It may leave, and come back, more than once.
    shop.night("doll")
    assert shop.live() == {"doll": shop.both["doll"]}
    shop.night(*HERE)
    assert shop.live() == shop.both


def test_lost_summaries_are_made_again_with_the_pictures_that_came_back(shop: Shop) -> None:
    shop.night()
    shop.night(*HERE)
    for key in (DECIDED_KEY, CURRENT_KEY):
        shop.store.delete(key)
        complete_open_runs(shop.store)
        assert shop.live() == shop.both
    assert verify(shop.store).problems == ()


def test_a_return_that_was_stored_but_not_merged_is_completed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.night()
    with monkeypatch.context() as patched:
        patched.setattr("toygan.publishing.returned.merge_into_summaries", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            shop.night(*HERE)
    assert shop.live() == {}
    complete_open_runs(shop.store)
    assert shop.live() == shop.both
    assert verify(shop.store).problems == ()


def test_the_undo_says_why(shop: Shop) -> None:
    shop.night()
    shop.night("car")
    key = returned_key("night-3")
    [undo] = read_decisions(shop.store.get(key), key).to_pylist()
    assert (undo["decision"], undo["decided_by"], undo["sku"]) == ("undo", "machine", "car")
    assert undo["reason"] == "in the catalog again"


def test_a_changed_row_gets_a_new_picture(shop: Shop) -> None:
    shop.night()
    shop.rows["car"] = product(sku="car", colour="Blue")
    assert [slot.sku for slot in shop.night(*HERE)] == ["car"]
    assert shop.live() == {"doll": shop.both["doll"]}


def test_a_product_whose_file_is_gone_is_asked_for_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.night()
    monkeypatch.setattr(survey, "RETIRED_DAYS", 0)
    assert {each["image_uri"] for each in (shop.doll, shop.car)} <= set(prune(shop.store))
    slots = {slot.sku: slot for slot in shop.night(*HERE)}
    assert (shop.returned, sorted(slots)) == (0, ["car", "doll"])
    assert (slots["car"].first_attempt, slots["car"].attempts) == (4, 4)
    # It is asked for once. The candidate waits for people, who see it.
    again = shop.make(slots["car"], REVIEW)
    assert [slot.sku for slot in shop.night(*HERE)] == ["doll"]
    items = Gallery(shop.store).page(Filter(), after=None, count=9)["items"]
    assert [item["image_id"] for item in items] == [again["image_id"]]


def test_a_file_that_is_being_removed_does_not_come_back(shop: Shop) -> None:
    shop.night()
    write_pruning(shop.store, "prune", [shop.car["image_uri"]])
    assert [slot.sku for slot in shop.night(*HERE)] == ["car"]
    assert shop.live() == {"doll": shop.both["doll"]}
    with pytest.raises(BadInput, match="`toygan verify --prune` is removing the file review/"):
        shop.decide("approve", shop.car)
    assert not any("approval-" in info.key for info in shop.store.list(".tmp/"))


def test_a_run_with_a_frozen_plan_brings_nothing_back(shop: Shop) -> None:
    """Its mark would protect nothing. The next run does it."""
    shop.night()
    shop.store.put(plan_manifest_key("night-3"), b"{}")
    catalog = str(shop.folder / "night-1.parquet")
    assert bring_back(shop.store, "night-3", read_summaries(shop.store), catalog, {}, 1) == 0
    assert bring_back(shop.store, "night-4", read_summaries(shop.store), catalog, {}, 1) == 2
    assert shop.live() == shop.both


def test_an_approval_that_died_is_named(shop: Shop) -> None:
    shop.night()
    with marked_approval(shop.store):
        [line] = [each for each in verify(shop.store).planning if "approval-" in each]
    assert re.match(
        r"\.tmp/approval-\w+/: a retired picture is being approved since .* remove this folder$", line
    )


def test_a_rejection_is_final(shop: Shop) -> None:
    shop.night()
    shop.decide("reject", shop.car)
    assert [slot.sku for slot in shop.night(*HERE)] == ["car"]
    assert shop.live() == {"doll": shop.both["doll"]}


def test_a_decision_about_another_candidate_does_not_matter(shop: Shop) -> None:
    """While a picture is retired, people see the other candidates of its product."""
    shop.decide("redraw", shop.car)
    [slot] = shop.night(*HERE)
    other = shop.make(slot, REVIEW)
    shop.decide("approve", shop.car)
    shop.night()
    shop.decide("reject", other)
    shop.night(*HERE)
    assert shop.live() == shop.both


@pytest.mark.parametrize("is_rejected", [False, True])
def test_a_picture_does_not_come_back_after_a_later_one(shop: Shop, is_rejected: bool) -> None:
    """Not even if the later one was withdrawn: of a slot's pictures, the last one counts."""
    red = shop.rows["car"]
    shop.night()
    shop.rows["car"] = product(sku="car", colour="Blue")
    [slot] = shop.night(*HERE)
    blue = shop.make(slot, APPROVED)
    assert shop.live()["car"] == (blue["image_id"], "machine")
    if is_rejected:
        shop.decide("reject", blue)
    shop.rows["car"] = red
    assert [slot.sku for slot in shop.night(*HERE)] == ["car"]
    assert shop.returned == 0


def test_a_picture_that_the_row_no_longer_wants_stays_retired(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    [slot] = [
        slot
        for slot in freeze(shop.store, tmp_path / "night-1.parquet", "more", images_per_product=2)[1]
        if slot.sku == "doll"
    ]
    second = shop.make(slot, APPROVED) | {"run_id": "more"}
    assert ("doll", 1) in live(shop.store)
    shop.night()
    shop.night(*HERE)
    assert sorted(live(shop.store)) == [("car", 0), ("doll", 0), ("other", 0)]
    assert second["image_index"] == 1


# prune at the same time


def bring_back_all(shop: Shop, store: ObjectStore) -> None:
    """The begin of a night, until its plan is frozen."""
    bring_back(store, "night-3", read_summaries(store), str(shop.folder / "night-1.parquet"), {}, 1)
    store.put(plan_manifest_key("night-3"), b"{}")


def approve_all(shop: Shop, store: ObjectStore) -> None:
    for row in (shop.doll, shop.car):
        with suppress(BadInput):
            decide(store, "approve", [row["image_id"]], by="Bo", reason=None)


def prune_store(store: ObjectStore) -> None:
    prune(store)


@pytest.mark.parametrize("act", [approve_all, bring_back_all])
@pytest.mark.parametrize("step", [pytest.param(3, marks=pytest.mark.slow), 8])
def test_a_picture_that_comes_back_during_a_prune_keeps_its_file(
    shop: Shop, act: Callable[[Shop, ObjectStore], None], step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the two pauses once, at any of its moments. A picture whose file is removed stays retired."""
    monkeypatch.setattr(survey, "RETIRED_DAYS", 0)
    shop.night()
    before, live = shop.store, set[int]()
    for first, second in (("other", "prune"), ("prune", "other")):
        for one, two in itertools.product(range(0, OPERATIONS, step), range(0, OPERATIONS, step)):
            shop.store = MemoryStore()
            for info in before.list_all():
                shop.store.put(info.key, before.get(info.key))
            Stretches((first, one), (second, two)).run(
                {"other": partial(act, shop), "prune": prune_store}, shop.store
            )
            pictures = read_current(shop.store.get(CURRENT_KEY))["image_uri"].to_pylist()
            assert all(map(shop.store.exists, pictures)), (first, one, two)
            live.add(len(pictures))
    assert {1, 3} <= live
