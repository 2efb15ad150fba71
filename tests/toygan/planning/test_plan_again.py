"""Plans a catalog whose pictures are live, exhausted or tried already."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_schemas.images import IMAGES, write_attempts
from tests.catalog_schemas.tables import product, write_catalog
from tests.toygan.generation.runs import candidate, put_current, put_part
from tests.toygan.planning.plans import LEFT, OTHER_MODELS, finish, freeze, keys
from tests.toygan.planning.plans import three as three
from toygan.planning.attempts import attempts_of
from toygan.planning.plan import ModelScope
from toygan.planning.pruning import write_pruning
from toygan.storage.keys import ATTEMPTS_KEY, image_key
from toygan.storage.memory import MemoryStore
from toygan.storage.store import ObjectStore


def test_missing_skips_what_is_live_and_unchanged(three: Path) -> None:
    store = MemoryStore()
    _, slots = freeze(store, three)
    finish(store, slots)
    plan, again = freeze(store, three, "run-2")
    assert again == []
    assert plan.counts == {"products": 3, "rejected_rows": 0, "unchanged": 4, **LEFT, "planned": 0}
    changed = [
        product(sku="a", images_wanted=3, updated_at=None),
        product(sku="b", category="car", title="New title"),
        product(sku="d"),
    ]
    plan, again = freeze(store, write_catalog(three.with_name("changed.parquet"), changed), "run-3")
    assert keys(again) == [("a", 2), ("b", 0), ("d", 0)]
    assert plan.counts["unchanged"] == 2


@pytest.mark.parametrize("category", ["car", "Toys > Cars", "积木"])
def test_a_product_whose_files_are_being_pruned_waits(tmp_path: Path, category: str) -> None:
    store, scopes = MemoryStore(), {"main": ModelScope(categories=frozenset([category]))}
    rows = [product(sku="红 1", category=category), product(sku="b", category=category)]
    write_pruning(store, "prune", [image_key(category, "红 1", "0" * 20, "webp")])
    plan, slots = freeze(store, write_catalog(tmp_path / "c.parquet", rows), scopes=scopes)
    assert (keys(slots), plan.counts["deferred"]) == ([("b", 0)], 1)


def test_refresh_alone_makes_pictures_of_another_model_anew(three: Path) -> None:
    store = MemoryStore()
    _, slots = freeze(store, three)
    old = [candidate(slot, "run-1", model_version="f" * 12) for slot in slots[:1]]
    rows = [*old, *(candidate(slot, "run-1") for slot in slots[1:])]
    put_part(store, "run-1", rows)
    put_current(store, rows)
    assert freeze(store, three, "run-2")[1] == []
    assert keys(freeze(store, three, "run-3", mode="refresh")[1]) == keys(slots[:1])
    assert keys(freeze(store, three, "run-4", mode="all")[1]) == keys(slots)


def test_a_live_picture_beyond_those_wanted_is_no_obstacle(tmp_path: Path) -> None:
    store = MemoryStore()
    rows = [product(sku="a", images_wanted=3), product(sku="b")]
    _, slots = freeze(store, write_catalog(tmp_path / "catalog.parquet", rows))
    finish(store, slots)
    fewer = write_catalog(tmp_path / "fewer.parquet", [product(sku="a", images_wanted=1), product(sku="b")])
    plan, again = freeze(store, fewer, "run-2")
    assert (again, plan.counts["unchanged"]) == ([], 2)


def test_skus_with_equal_hashes_are_not_confused(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    _, slots = freeze(store, three)
    finish(store, [slot for slot in slots if slot.sku != "c"])
    for module in ("live", "planner"):
        monkeypatch.setattr(
            f"toygan.planning.{module}.hash_strings",
            lambda strings: np.zeros(len(strings), dtype=np.uint64),
        )
    assert keys(freeze(store, three, "run-2")[1]) == [("c", 0)]


live_skus = st.lists(st.sampled_from([f"s{i}" for i in range(12)]), unique=True, min_size=1)


@settings(max_examples=30, deadline=None)
@given(live_skus, live_skus, st.integers(1, 3), st.integers(1, 3))
@pytest.mark.slow
def test_missing_is_what_is_wanted_less_what_is_live(
    tmp_path_factory: pytest.TempPathFactory, before: list[str], after: list[str], had: int, wants: int
) -> None:
    folder = tmp_path_factory.mktemp("catalog")
    store = MemoryStore()
    catalogs = [
        write_catalog(folder / f"{number}.parquet", [product(sku=sku) for sku in skus])
        for number, skus in enumerate((before, after))
    ]
    _, slots = freeze(store, catalogs[0], images_per_product=had)
    finish(store, slots)
    _, again = freeze(store, catalogs[1], "run-2", images_per_product=wants)
    wanted = {(sku, index) for sku in after for index in range(wants)}
    assert set(keys(again)) == wanted - {(sku, index) for sku in before for index in range(had)}


# attempts of earlier runs


def put_attempts(store: ObjectStore, *rows: dict[str, Any]) -> None:
    """The summary of runs that decided these rows."""
    table = pa.Table.from_pylist(list(rows), schema=IMAGES)
    store.put(ATTEMPTS_KEY, write_attempts(attempts_of(table, 1)))


def test_attempts_go_on_where_finished_runs_stopped(three: Path) -> None:
    store = MemoryStore()
    _, [a0, a1, b, c] = freeze(store, three)
    assert (a0.sku, a1.image_index, b.sku, c.sku) == ("a", 1, "b", "c")
    put_attempts(
        store,
        candidate(a0, "run-1", attempt=0, decision="rejected"),
        candidate(a0, "run-1", attempt=2),  # somebody rejected it
        candidate(a1, "run-1", attempt=3),
        candidate(c, "run-1", attempt=1, row_fingerprint="0" * 64, decision="rejected"),
        candidate(c, "run-2", attempt=1, model_version="f" * 12, decision="rejected"),
    )
    _, slots = freeze(store, three, "run-2")
    found = {(slot.sku, slot.image_index): (slot.first_attempt, slot.attempts) for slot in slots}
    assert found == {("a", 0): (3, 1), ("a", 1): (4, 4), ("b", 0): (0, 4), ("c", 0): (0, 4)}
    _, slots = freeze(store, three, "run-3", mode="all")
    assert [slot.attempts for slot in slots] == [4] * 4


def test_an_exhausted_picture_is_left_alone_until_something_changes(three: Path) -> None:
    """Its row, the model, or that somebody asks."""
    store = MemoryStore()
    _, slots = freeze(store, three)
    bad = [candidate(slot, "run-1", attempt=3, decision="rejected") for slot in slots[:2]]
    review = candidate(slots[0], "run-1", attempt=1, p_real=0.25)
    put_attempts(store, *bad, {**review, "decision": "review"}, candidate(slots[2], "run-1"))
    plan, left = freeze(store, three, "run-2")
    assert keys(left) == keys(slots[2:])
    assert (plan.counts["exhausted"], plan.counts["planned"], plan.counts["unchanged"]) == (2, 2, 0)
    assert keys(freeze(store, three, "run-3", mode="refresh")[1]) == keys(slots[2:])
    _, again = freeze(store, three, "run-4", mode="retry")
    assert keys(again) == keys(slots)
    asked = {(slot.sku, slot.image_index): slot for slot in again}
    first = asked[slots[0].sku, slots[0].image_index]
    assert (first.first_attempt, first.attempts, first.review_p_real) == (4, 4, 0.25)
    assert keys(freeze(store, three, "run-5", models=OTHER_MODELS)[1]) == keys(slots)
    changed = [product(sku="a", images_wanted=2, title="New"), product(sku="b", category="car")]
    assert ("a", 0) in keys(freeze(store, write_catalog(three.with_name("x.parquet"), changed), "run-6")[1])


def test_a_refresh_redraws_at_most_its_share_of_the_live_pictures(tmp_path: Path) -> None:
    store = MemoryStore()
    path = write_catalog(tmp_path / "c.parquet", [product(sku=f"s{i}") for i in range(10)])
    _, slots = freeze(store, path)
    put_current(store, [candidate(slot, "run-1", model_version="e" * 12) for slot in slots])
    more = write_catalog(tmp_path / "more.parquet", [product(sku=f"s{i}") for i in range(12)])
    plan, again = freeze(store, more, "run-2", mode="refresh", refresh_share=0.25)
    assert keys(again) == [("s0", 0), ("s1", 0), ("s10", 0), ("s11", 0), ("s2", 0)]
    assert (plan.counts["planned"], plan.counts["unchanged"]) == (5, 7)
    assert len(freeze(store, more, "run-3", mode="refresh")[1]) == 12


def test_planning_reads_summaries_and_no_history(three: Path) -> None:
    class Counting(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.read: Counter[str] = Counter()

        def get(self, key: str) -> bytes:
            self.read[key.split("/")[0]] += 1
            return super().get(key)

    store = Counting()
    _, slots = freeze(store, three)
    finish(store, slots)
    store.read.clear()
    freeze(store, three, "run-2")
    assert store.read["state"] == 4  # commits, attempts, decisions, and what is being pruned
    freeze(store, write_catalog(three.with_name("new.parquet"), [product(sku="c", title="New")]), "run-3")
    assert (store.read["metadata"], store.read["state"]) == (0, 8)


# siblings


def test_slots_know_the_perceptual_hashes_of_the_other_live_pictures(tmp_path: Path) -> None:
    store = MemoryStore()
    rows = [product(sku="a", images_wanted=2), product(sku="b", images_wanted=1), product(sku="c")]
    _, slots = freeze(store, write_catalog(tmp_path / "catalog.parquet", rows))
    finish(store, slots)
    more = [
        product(sku="a", images_wanted=4),
        product(sku="b", images_wanted=1, title="New title"),
        product(sku="d"),
    ]
    path = write_catalog(tmp_path / "more.parquet", more)
    zero, one = f"{0:016x}", f"{1:016x}"
    _, slots = freeze(store, path, "run-2")
    assert {(slot.sku, slot.image_index): slot.sibling_phashes for slot in slots} == {
        ("a", 2): (zero, one),
        ("a", 3): (zero, one),
        ("b", 0): (),
        ("d", 0): (),
    }
    _, slots = freeze(store, path, "run-3", mode="all")
    of_a = [slot.sibling_phashes for slot in slots if slot.sku == "a"]
    assert of_a == [(one,), (zero,), (zero, one), (zero, one)]
