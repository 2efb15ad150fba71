"""From a catalog to a frozen plan."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.catalog_schemas.tables import catalog_table, product, write_catalog
from tests.toygan.planning.plans import CATEGORIES, LEFT, SETTINGS, everything, finish, freeze, keys, rejected
from toygan.conditions.colour_names import ColourNames
from toygan.errors import CatalogError
from toygan.planning.plan import (
    ModelScope,
    check_catalog,
    freeze_plan,
    load_shard,
)
from toygan.storage.keys import plan_manifest_key, planning_key
from toygan.storage.memory import MemoryStore
from toygan.storage.open_store import open_store

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
    (wrong_type, "'sku' has the type int64; it must be string"),
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
    assert not store.exists(planning_key("run-1"))  # it would keep `verify --prune` from removing pictures


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
    assert (slot.attempts, slot.review_p_real) == (4, None)
    assert (slot.attributes, slot.condition_sha256, slot.sibling_phashes) == ({}, {}, ())
    assert len(slot.row_fingerprint) == 64


def test_nothing_to_reject_is_an_empty_table(tmp_path: Path) -> None:
    store = MemoryStore()
    freeze(store, write_catalog(tmp_path / "catalog.parquet", [product()]))
    assert rejected(store) == []


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


def test_the_real_catalog_is_planned(toybricks: Path) -> None:
    path = toybricks / "catalog.parquet"
    table = pq.read_table(path)
    store = MemoryStore()
    scopes = {"main": ModelScope(categories=frozenset(table["category"].to_pylist()))}
    plan = freeze_plan(store, "run-1", str(path), SETTINGS, scopes)
    assert rejected(store) == []
    assert plan.counts["planned"] == table.num_rows
    slots = [slot for shard in range(len(plan.shards)) for slot in load_shard(store, "run-1", shard)]
    assert sum("sketch" in slot.condition_sha256 for slot in slots) == pc.count(table["sketch_uri"]).as_py()


# main colours


def test_a_slot_has_the_colour_that_its_row_names(tmp_path: Path) -> None:
    names = ColourNames(hexes={"red": "#B40000"})
    scopes = {"main": ModelScope(categories=frozenset(CATEGORIES), colour_names=names)}
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
        scopes = {"main": ModelScope(categories=frozenset(CATEGORIES), colour_names=names)}
        _, (slot,) = freeze(open_store(f"memory://print-{number}"), catalog, scopes=scopes)
        assert slot.colour_hex == value
        prints.add(slot.row_fingerprint)
    assert len(prints) == 1
