"""From a catalog to a frozen plan."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_schemas.images import IMAGES, write_attempts
from catalog_schemas.validation import REJECTED_ROWS, read_parquet_bytes
from tests.benchmarks import planning
from tests.catalog_schemas.tables import catalog_table, product, write_catalog
from tests.toygan.generation.runs import MODEL, candidate, put_current, put_manifest, put_part
from toygan.conditions.colour_names import ColourNames
from toygan.errors import BadInput, CatalogError, ObjectNotFound, RunConflict
from toygan.planning.attempts import attempts_of
from toygan.planning.plan import (
    FrozenPlan,
    ModelScope,
    RunSettings,
    Slot,
    check_catalog,
    check_plan,
    freeze_plan,
    load_shard,
)
from toygan.planning.writer import FEW_SLOTS
from toygan.storage.keys import ATTEMPTS_KEY, manifest_key, plan_manifest_key, rejected_rows_key
from toygan.storage.memory import MemoryStore
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectStore

CATEGORIES = ("brick", "car", "wheel")
SCOPES = {None: ModelScope(categories=frozenset(CATEGORIES))}
SETTINGS = RunSettings(**MODEL)
LEFT = {"exhausted": 0, "deferred": 0}


def settings_with(**changes: Any) -> RunSettings:
    return RunSettings(**{**MODEL, **changes})


def freeze(
    store: ObjectStore, catalog: Path | str, run_id: str = "run-1", **changes: Any
) -> tuple[FrozenPlan, list[Slot]]:
    """The plan and all its slots."""
    shard_size, scopes = changes.pop("shard_size", 512), changes.pop("scopes", SCOPES)
    plan = freeze_plan(store, run_id, str(catalog), settings_with(**changes), scopes, shard_size=shard_size)
    return plan, [slot for shard in range(len(plan.shards)) for slot in load_shard(store, run_id, shard)]


def rejected(store: ObjectStore, run_id: str = "run-1") -> list[tuple[Any, ...]]:
    key = rejected_rows_key(run_id)
    rows = read_parquet_bytes(store.get(key), REJECTED_ROWS, key).to_pylist()
    return [tuple(row.values()) for row in rows]


def keys(slots: list[Slot]) -> list[tuple[str, int]]:
    return sorted((slot.sku, slot.image_index) for slot in slots)


def everything(store: ObjectStore) -> list[str]:
    return [info.key for prefix in ("", ".tmp/") for info in store.list(prefix)]


# bad tables: nothing is written


def missing(path: Path) -> None:
    pass


def empty_file(path: Path) -> None:
    path.write_bytes(b"")


def not_parquet(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def truncated(path: Path) -> None:
    write_catalog(path, [product(sku=f"s{i}") for i in range(100)])
    path.write_bytes(path.read_bytes()[:-500])


def damaged(path: Path) -> None:
    write_catalog(path, [product(sku=f"s{i}") for i in range(100)])
    content = bytearray(path.read_bytes())
    content[10:1000] = bytes(990)
    path.write_bytes(content)


def missing_column(path: Path) -> None:
    pq.write_table(catalog_table([product()]).drop_columns(["title"]), path)


def wrong_type(path: Path) -> None:
    table = catalog_table([product()])
    pq.write_table(table.set_column(0, "sku", pa.array([17])), path)


def no_rows(path: Path) -> None:
    pq.write_table(catalog_table([product()]).slice(0, 0), path)


def no_good_row(path: Path) -> None:
    write_catalog(path, [product(sku=None), product(sku="../../x"), product(title=" ", finish="matte")])


BAD_TABLES = [
    (missing, "cannot be read .No such file"),
    (empty_file, "the file is empty"),
    (not_parquet, "not a catalog"),
    (truncated, "truncated"),
    (damaged, "damaged"),
    (missing_column, "required column 'title' is missing; add it as string"),
    (wrong_type, "'sku' has the type int64, wanted is string"),
    (no_rows, "no rows"),
    (no_good_row, r"none of the 3 rows can be used.*sku: malformed \(1\)"),
]


@pytest.mark.parametrize(("make", "said"), BAD_TABLES)
def test_a_bad_table_stops_before_anything_is_written(
    tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "catalog.parquet"
    make(path)
    store = MemoryStore()
    with pytest.raises(CatalogError, match=said):
        freeze(store, path)
    assert everything(store) == []
    with pytest.raises(CatalogError, match=said):
        check_catalog(str(path))


def test_a_catalog_of_unknown_categories_only_stops_too(tmp_path: Path) -> None:
    path = write_catalog(
        tmp_path / "c.parquet", [product(category="boat"), product(sku="b", category="boat")]
    )
    store = MemoryStore()
    with pytest.raises(CatalogError, match=r"category: no_model_for_category \(2\)"):
        freeze(store, path)
    assert everything(store) == []
    check_catalog(str(path))  # which knows no model


def test_a_catalog_with_one_good_row_passes_the_check(tmp_path: Path) -> None:
    check_catalog(str(write_catalog(tmp_path / "c.parquet", [product(sku=None), product()])))


def test_a_catalog_that_changes_while_it_is_read_is_not_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_catalog(tmp_path / "c.parquet", [product()])
    from toygan.planning import catalog

    original = catalog.stream_products

    def slow(opened: Path, **options: Any) -> Any:
        yield from original(opened, **options)
        os.utime(opened, ns=(1, 1))

    monkeypatch.setattr(catalog, "stream_products", slow)
    store = MemoryStore()
    with pytest.raises(CatalogError, match="changed while it was read"):
        freeze(store, path)
    assert not store.exists(plan_manifest_key("run-1"))


# rows


def test_bad_rows_are_set_aside_with_row_column_and_reason(tmp_path: Path) -> None:
    rows = [
        product(sku="a"),
        product(sku=None),
        product(sku="a"),
        product(sku="../../x"),
        product(sku="b", category="boat"),
        product(sku="c", colour_hex="red", finish="matte"),
        product(sku="d", sketch_uri="none.png"),
        product(sku="e", category="car"),
    ]
    store = MemoryStore()
    plan, slots = freeze(store, write_catalog(tmp_path / "catalog.parquet", rows))
    assert rejected(store) == [
        (1, None, "sku", "null"),
        (2, "a", "sku", "duplicate"),
        (3, "../../x", "sku", "malformed"),
        (4, "b", "category", "no_model_for_category: boat"),
        (5, "c", "colour_hex", "malformed"),
        (5, "c", "finish", "unknown"),
        (6, "d", "sketch_uri", "condition_file_not_found: none.png"),
    ]
    assert keys(slots) == [("a", 0), ("e", 0)]
    assert plan.counts == {"products": 2, "rejected_rows": 6, "unchanged": 0, **LEFT, "planned": 2}
    assert plan.categories == {
        "brick": {"products": 1, "unchanged": 0, **LEFT, "planned": 1},
        "car": {"products": 1, "unchanged": 0, **LEFT, "planned": 1},
    }


def test_a_slot_carries_its_row(tmp_path: Path) -> None:
    store = MemoryStore()
    rows = [product(title=None), product(sku="x", title="积木", colour_hex="#b4000f", attributes=None)]
    _, [slot] = freeze(store, write_catalog(tmp_path / "catalog.parquet", rows))
    assert (slot.row, slot.sku, slot.title, slot.language, slot.colour_hex) == (
        1,
        "x",
        "积木",
        "en",
        "#B4000F",
    )
    assert (slot.image_index, slot.first_attempt, slot.category, slot.finish) == (0, 0, "brick", "solid")
    assert (slot.attempts, slot.images_wanted, slot.images_kept, slot.review_p_real) == (4, 1, 0, None)
    assert (slot.attributes, slot.condition_sha256, slot.sibling_phashes) == ({}, {}, ())
    assert slot.sketch_uri is None
    assert len(slot.row_fingerprint) == 64


def test_nothing_to_reject_is_an_empty_table(tmp_path: Path) -> None:
    store = MemoryStore()
    freeze(store, write_catalog(tmp_path / "catalog.parquet", [product()]))
    assert rejected(store) == []


# shards

catalogs = st.lists(
    st.tuples(st.sampled_from(CATEGORIES), st.none() | st.integers(1, 64)), min_size=1, max_size=60
)


@settings(max_examples=40, deadline=None)
@given(catalogs, st.integers(64, 200), st.integers(1, 5), st.integers(64, 300))
@pytest.mark.slow
def test_every_slot_is_in_one_shard(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, int | None]],
    shard_size: int,
    images_per_product: int,
    at_a_time: int,
) -> None:
    catalog = [
        product(sku=f"s{i}", category=category, images_wanted=wanted)
        for i, (category, wanted) in enumerate(rows)
    ]
    path = write_catalog(tmp_path_factory.mktemp("catalog") / "catalog.parquet", catalog)
    store = MemoryStore()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("toygan.planning.planner._MOST_SLOTS", at_a_time)
        plan, slots = freeze(store, path, shard_size=shard_size, images_per_product=images_per_product)
    assert keys(slots) == sorted(
        (f"s{i}", index)
        for i, (_, wanted) in enumerate(rows)
        for index in range(wanted or images_per_product)
    )
    totals = Counter(slot.category for slot in slots)
    home: dict[str, int] = {}
    sizes: dict[str, list[int]] = defaultdict(list)
    shared: list[int] = []
    for number, shard in enumerate(plan.shards):
        of_shard = load_shard(store, "run-1", number)
        assert tuple(sorted({slot.category for slot in of_shard})) == shard.categories
        assert 0 < len(of_shard) == shard.slots <= shard_size
        assert [slot.row for slot in of_shard] == sorted(slot.row for slot in of_shard)
        assert all(home.setdefault(slot.sku, number) == number for slot in of_shard)
        if max(totals[category] for category in shard.categories) <= FEW_SLOTS:
            shared.append(shard.slots)
        else:
            sizes[shard.categories[0]].append(shard.slots)
            assert len(shard.categories) == 1
    for of_category in sizes.values():  # no shard is left so small that the next product would have fitted
        assert all(size > shard_size - 64 for size in of_category[:-1])
    assert all(size > shard_size - FEW_SLOTS for size in shared[:-1])


@pytest.mark.parametrize(("shard_size", "shared_sizes"), [(64, [64, 14]), (512, [78])])
def test_categories_of_few_slots_share_shards(
    tmp_path: Path, shard_size: int, shared_sizes: list[int]
) -> None:
    names = tuple(f"c{number:02d}" for number in range(40))
    rows = [product(sku=f"s{i:03d}", category=names[i * 7 % 40]) for i in range(80)]
    rows += [product(sku=f"t{i:03d}", category="c05") for i in range(100)]
    store = MemoryStore()
    catalog = write_catalog(tmp_path / "catalog.parquet", rows)
    scopes = {None: ModelScope(categories=frozenset(names))}
    plan, slots = freeze(store, catalog, scopes=scopes, shard_size=shard_size)
    assert sorted(slot.row for slot in slots) == list(range(180))
    large = [shard for shard in plan.shards if "c05" in shard.categories]
    assert all(shard.categories == ("c05",) for shard in large)
    shared = [shard for shard in plan.shards if shard not in large]
    assert [shard.slots for shard in shared] == shared_sizes
    assert [name for shard in shared for name in shard.categories] == [
        name for name in names if name != "c05"
    ]
    for shard in shared:
        of_shard = load_shard(store, "run-1", plan.shards.index(shard))
        assert {slot.category for slot in of_shard} == set(shard.categories)
        assert [slot.row for slot in of_shard] == sorted(slot.row for slot in of_shard)
    assert FrozenPlan.from_json(plan.to_json(), "x") == plan


def test_a_shard_that_could_not_hold_a_product_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="63 slots"):
        freeze(MemoryStore(), write_catalog(tmp_path / "c.parquet", [product()]), shard_size=63)


@pytest.mark.slow
def test_many_rows_of_one_category(tmp_path: Path) -> None:
    figures = planning.measure(rows=(200_000,), categories=1)[200_000]
    assert figures["shards"] == -(-200_000 // 512)
    assert figures["peak_mib"] < 1536


# limit and categories


def test_the_limit_counts_good_products_in_catalog_order(tmp_path: Path) -> None:
    rows = [
        product(sku="a", category="car"),
        product(sku=None),
        product(sku="b", category="boat"),
        product(sku="c", sketch_uri="none.png"),
        product(sku="d"),
        product(sku="e"),
        product(sku=None),
    ]
    path = write_catalog(tmp_path / "catalog.parquet", rows)
    store = MemoryStore()
    plan, slots = freeze(store, path, limit=2)
    assert keys(slots) == [("a", 0), ("d", 0)]
    assert [row[0] for row in rejected(store)] == [1, 2, 3]
    assert plan.counts == {"products": 2, "rejected_rows": 3, "unchanged": 0, **LEFT, "planned": 2}
    assert keys(freeze(MemoryStore(), path, limit=2, categories=("brick",))[1]) == [("d", 0), ("e", 0)]
    assert keys(freeze(MemoryStore(), path, limit=99)[1]) == [("a", 0), ("d", 0), ("e", 0)]


def test_only_chosen_categories_are_planned(tmp_path: Path) -> None:
    path = write_catalog(tmp_path / "c.parquet", [product(sku=name, category=name) for name in CATEGORIES])
    store = MemoryStore()
    assert keys(freeze(store, path, categories=("wheel", "car"))[1]) == [("car", 0), ("wheel", 0)]
    assert rejected(store) == []


def test_chosen_categories_that_the_catalog_lacks_make_an_empty_plan(tmp_path: Path) -> None:
    plan, slots = freeze(
        MemoryStore(), write_catalog(tmp_path / "c.parquet", [product()]), categories=("car",)
    )
    assert (plan.shards, slots) == ((), [])


def test_a_category_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    store = MemoryStore()
    with pytest.raises(BadInput, match="no pictures of boat; known are brick, car, wheel"):
        freeze(store, write_catalog(tmp_path / "catalog.parquet", [product()]), categories=("boat",))
    assert everything(store) == []


# what is live already


def finish(
    store: ObjectStore, slots: list[Slot], run_id: str = "run-1", **changes: Any
) -> list[dict[str, Any]]:
    """Finish a run in which every slot was approved at once, and make its pictures live."""
    rows = [candidate(slot, run_id, **changes) for slot in slots]
    put_part(store, run_id, rows)
    put_manifest(store, run_id, settings_with(**{k: v for k, v in changes.items() if k in MODEL}))
    put_current(store, rows)
    return rows


@pytest.fixture
def three(tmp_path: Path) -> Path:
    rows = [product(sku="a", images_wanted=2), product(sku="b", category="car"), product(sku="c")]
    return write_catalog(tmp_path / "catalog.parquet", rows)


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


def test_skus_whose_hashes_collide_are_told_apart(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert keys(freeze(store, three, "run-5", model_version="f" * 12)[1]) == keys(slots)
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
    assert store.read["state"] == 2  # the decisions, and what is being pruned
    freeze(store, write_catalog(three.with_name("new.parquet"), [product(sku="c", title="New")]), "run-3")
    assert (store.read["metadata"], store.read["state"]) == (0, 5)


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


# condition files


def test_condition_files_count_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "conditions").mkdir()
    sketch = tmp_path / "conditions" / "a.png"
    sketch.write_bytes(b"first")
    rows = [product(sku="a", sketch_uri="conditions/a.png"), product(sku="b", layout_uri="./conditions/../c")]
    (tmp_path / "c").write_bytes(b"other")
    path = write_catalog(tmp_path / "catalog.parquet", rows)
    store = MemoryStore()
    _, slots = freeze(store, path)
    sha256 = "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e"  # of "first"
    assert slots[0].condition_sha256 == {"sketch": sha256}
    assert list(slots[1].condition_sha256) == ["layout"]
    assert slots[0].sketch_uri == "conditions/a.png"
    finish(store, slots)
    assert freeze(store, path, "run-2")[1] == []
    sketch.write_bytes(b"second")
    assert keys(freeze(store, path, "run-3")[1]) == [("a", 0)]


def test_a_condition_that_is_no_plain_file_sets_its_row_aside(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    uris = ["folder", "pipe", "x" * 300, "fine"]
    (tmp_path / "fine").touch()
    rows = [product(sku=f"s{i}", sketch_uri=uri) for i, uri in enumerate(uris)]
    store = MemoryStore()
    freeze(store, write_catalog(tmp_path / "catalog.parquet", rows))
    assert [row[2:] for row in rejected(store)] == [
        ("sketch_uri", f"condition_file_unreadable: {uri}") for uri in uris[:3]
    ]


# catalogs elsewhere


def test_a_catalog_in_a_bucket_is_planned_like_a_file(tmp_path: Path, s3_uri: str) -> None:
    rows = [
        product(sku="a", sketch_uri="./conditions/a.png"),
        product(sku="b", sketch_uri="none.png"),
        product(sku="c", sketch_uri="x" * 300),
    ]
    path = write_catalog(tmp_path / "catalog.parquet", rows)
    (tmp_path / "conditions").mkdir()
    (tmp_path / "conditions" / "a.png").write_bytes(b"sketch")
    bucket = open_store(f"{s3_uri}/shop")
    bucket.put("catalog.parquet", path.read_bytes())
    bucket.put("conditions/a.png", b"sketch")
    uri = f"{s3_uri}/shop/catalog.parquet"
    check_catalog(uri)
    near, far = MemoryStore(), open_store(f"{s3_uri}/out")
    plan, slots = freeze(far, uri)
    local_plan, local_slots = freeze(near, path)
    assert slots == local_slots
    assert plan.catalog_sha256 == local_plan.catalog_sha256
    assert plan.shards == local_plan.shards
    assert rejected(far) == rejected(near)
    assert [row[3][:25] for row in rejected(far)] == [
        "condition_file_not_found:",
        "condition_file_unreadable",
    ]


def test_a_file_uri_is_a_local_path(tmp_path: Path) -> None:
    path = write_catalog(tmp_path / "katalog ü.parquet", [product()])
    assert keys(freeze(MemoryStore(), path.as_uri())[1]) == [("brick-3001-4", 0)]


@pytest.mark.parametrize(
    "uri", ["memory://", "memory://shop", "memory://shop/", "memory://shop/none.parquet"]
)
def test_an_object_that_is_not_there_is_named(uri: str) -> None:
    with pytest.raises(CatalogError, match=uri):
        check_catalog(uri)


def test_errors_in_a_fetched_catalog_name_its_uri() -> None:
    open_store("memory://bad-catalog").put("c.parquet", b"PAR1 and no more")
    with pytest.raises(
        CatalogError, match=r"^memory://bad-catalog/c\.parquet: the Parquet file is truncated"
    ):
        check_catalog("memory://bad-catalog/c.parquet")


# freezing


def test_a_frozen_plan_stays_as_it_is(three: Path) -> None:
    store = MemoryStore()
    plan, slots = freeze(store, three, images_per_product=2)
    before = {key: store.get(key) for key in everything(store)}
    put_current(store, [candidate(slot, "another-run") for slot in slots])
    assert freeze(store, three, images_per_product=2) == (plan, slots)
    assert {key: store.get(key) for key in before} == before
    assert FrozenPlan.from_json(plan.to_json(), "x") == plan


def test_a_start_that_died_before_the_freeze_is_planned_again_the_same(three: Path) -> None:
    store = MemoryStore()
    plan, slots = freeze(store, three)
    store.delete(plan_manifest_key("run-1"))
    assert freeze(store, three) == (plan, slots)


def test_the_plan_manifest_is_written_last(three: Path) -> None:
    class Recording(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.written: list[str] = []

        def put(self, key: str, data: bytes, *, content_type: str = "") -> None:
            self.written.append(key)
            super().put(key, data, content_type=content_type)

    store = Recording()
    freeze(store, three)
    assert store.written[-2:] == [rejected_rows_key("run-1"), plan_manifest_key("run-1")]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mode": "all"}, "mode is 'all', was 'missing'"),
        ({"images_per_product": 3}, "images_per_product is 3, was 1"),
        ({"categories": ("brick",)}, r"categories is \['brick'\], was \[\]"),
        ({"limit": 1}, "limit is 1, was None"),
        ({"format": "png"}, "format is 'png', was 'webp'"),
        ({"model_version": "f" * 12}, "model_version is 'ffffffffffff', was '0123456789ab'"),
        ({"model_name": "x", "limit": 3}, "limit is 3, was None; model_name is 'x', was 'toybricks'"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_a_run_id_with_other_settings_is_refused(
    three: Path, changes: dict[str, Any], said: str, finished: bool
) -> None:
    store = MemoryStore()
    plan, _ = freeze(store, three)
    if finished:
        put_manifest(store, "run-1", SETTINGS, plan.catalog_sha256)
        store.delete(plan_manifest_key("run-1"))
    with pytest.raises(RunConflict, match=f"run-1 .*: {said}. Use"):
        freeze(store, three, **changes)
    check_plan(store, "run-1", str(three), SETTINGS, SCOPES)
    before = everything(store)
    with pytest.raises(RunConflict, match=f"run-1 .*: {said}. Use"):
        check_plan(store, "run-1", str(three), settings_with(**changes), SCOPES)
    assert everything(store) == before


@pytest.mark.parametrize("finished", [False, True])
def test_a_run_id_with_another_catalog_is_refused(three: Path, finished: bool) -> None:
    store = MemoryStore()
    plan, _ = freeze(store, three)
    if finished:
        put_manifest(store, "run-1", SETTINGS, plan.catalog_sha256)
        store.delete(plan_manifest_key("run-1"))
    other = write_catalog(three.with_name("other.parquet"), [product()])
    with pytest.raises(RunConflict, match="the catalog's sha256 is"):
        freeze(store, other)
    copy = three.with_name("copy.parquet")
    copy.write_bytes(three.read_bytes())
    freeze(store, copy)  # the same content under another name is the same catalog


def test_a_finished_and_swept_run_has_nothing_left_to_do(three: Path) -> None:
    store = MemoryStore()
    plan, _ = freeze(store, three)
    put_manifest(store, "run-1", SETTINGS, plan.catalog_sha256)
    for info in list(store.list(".tmp/")):
        store.delete(info.key)
    before = everything(store)
    again, slots = freeze(store, three)
    assert (again.shards, slots, again.counts) == ((), [], {"products": 7})
    assert everything(store) == before
    assert manifest_key("run-1") in before


def test_a_damaged_plan_is_refused(three: Path) -> None:
    store = MemoryStore()
    store.put(plan_manifest_key("run-1"), b"{}")
    with pytest.raises(BadInput, match=r"\.tmp/run-1/plan\.json: not a plan"):
        freeze(store, three)


def test_a_shard_that_is_not_there_is_named(three: Path) -> None:
    store = MemoryStore()
    freeze(store, three)
    with pytest.raises(ObjectNotFound, match=r"plan/00009"):
        load_shard(store, "run-1", 9)


def test_a_hostile_run_id_reaches_no_key(three: Path) -> None:
    with pytest.raises(BadInput, match="run id"):
        freeze(MemoryStore(), three, "../x")


# settings


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images_per_product": 0}, "must be 1 to 64"),
        ({"images_per_product": 65}, "must be 1 to 64"),
        ({"refresh_share": 0.0}, "the refresh share is 0.0"),
        ({"limit": 0}, "at least 1"),
        ({"mode": "some"}, "'some' is none of missing, refresh, retry, all"),
        ({"format": "gif"}, "'gif' is none of webp, jpg, png"),
        ({"categories": ("a ",)}, "'a ' cannot be"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        settings_with(**changes)


def test_settings_survive_json_and_know_no_order_of_categories() -> None:
    made = settings_with(categories=("wheel", "car", "wheel"), limit=5)
    assert made == settings_with(categories=("car", "wheel"), limit=5)
    assert RunSettings.from_json(made.to_json()) == made


def test_the_real_catalog_is_planned(toybricks: Path) -> None:
    path = toybricks / "catalog.parquet"
    table = pq.read_table(path)
    store = MemoryStore()
    scopes = {None: ModelScope(categories=frozenset(table["category"].to_pylist()))}
    plan = freeze_plan(store, "run-1", str(path), SETTINGS, scopes)
    assert rejected(store) == []
    assert plan.counts["planned"] == table.num_rows
    slots = [slot for shard in range(len(plan.shards)) for slot in load_shard(store, "run-1", shard)]
    with_sketch = [slot for slot in slots if slot.sketch_uri]
    assert with_sketch
    assert all("sketch" in slot.condition_sha256 for slot in with_sketch)


# main colours


def test_a_slot_has_the_colour_that_its_row_names(tmp_path: Path) -> None:
    names = ColourNames(hexes={"red": "#B40000"})
    scopes = {None: ModelScope(categories=frozenset(CATEGORIES), colour_names=names)}
    none = {"colour": None, "colour_hex": None, "title": "Brick"}
    rows = [
        product(sku="hex", colour="Blue", colour_hex="#00ff00"),
        product(sku="column", **none | {"colour": "Red"}),
        product(sku="title", **none | {"title": "Brick, Red"}),
        product(sku="unknown", **none),
    ]
    _, slots = freeze(
        open_store("memory://colours"), write_catalog(tmp_path / "c.parquet", rows), scopes=scopes
    )
    assert [(each.sku, each.colour, each.colour_hex, each.colour_source) for each in slots] == [
        ("hex", "Blue", "#00FF00", "colour_hex"),
        ("column", "Red", "#B40000", "colour"),
        ("title", "Red", "#B40000", "title"),
        ("unknown", None, None, None),
    ]


def test_the_colour_that_is_found_is_not_part_of_the_fingerprint(tmp_path: Path) -> None:
    rows = [product(sku="a", colour=None, colour_hex=None)]
    catalog = write_catalog(tmp_path / "c.parquet", rows)
    prints = set()
    for number, value in enumerate(("#B40000", "#FF0000")):
        names = ColourNames(hexes={"red": value})
        scopes = {None: ModelScope(categories=frozenset(CATEGORIES), colour_names=names)}
        _, (slot,) = freeze(open_store(f"memory://print-{number}"), catalog, scopes=scopes)
        assert slot.colour_hex == value
        prints.add(slot.row_fingerprint)
    assert len(prints) == 1
