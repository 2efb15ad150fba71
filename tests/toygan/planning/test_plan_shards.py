"""Shards, and the limit and the categories of a plan."""

from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.benchmarks import planning
from tests.catalog_schemas.tables import product, write_catalog
from tests.toygan.planning.plans import CATEGORIES, LEFT, catalogs, everything, freeze, keys, rejected
from toygan.errors import BadInput
from toygan.planning.plan import (
    FrozenPlan,
    ModelScope,
    load_shard,
)
from toygan.planning.writer import FEW_SLOTS
from toygan.storage.memory import MemoryStore


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
    scopes = {"main": ModelScope(categories=frozenset(names))}
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
