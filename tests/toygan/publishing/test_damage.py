"""Whatever is wrong with a file of a store: verify reports it and goes on, the others say one line."""

import json
from contextlib import suppress
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_schemas.runs import PLAN, Manifest
from catalog_schemas.validation import TableError, parquet_bytes
from tests.toygan.publishing.stores import killed_run, put_run
from toygan.errors import ToyganError
from toygan.planning.plan import FrozenPlan, load_shard
from toygan.planning.settings import RunSettings
from toygan.publishing.finish import rewrite_report
from toygan.publishing.verify import prune, verify
from toygan.storage import keys
from toygan.storage.memory import MemoryStore

TABLES = (
    keys.part_key("night-1", 0),
    keys.part_key("night-2", 0),
    keys.plan_key("night-2", 1),
    keys.CURRENT_KEY,
)
DEEP = "[" * 200_000
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**18), 10**18),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([[], {}, {"x": []}, "../../x", "\ud800", "x" * 2000, 10**30]),
)


@cache
def objects() -> dict[str, bytes]:
    """Those of a store with a finished run and one that was killed, whose manifests and plans are whole."""
    store = MemoryStore()
    put_run(store)
    killed_run(store)
    counts = dict.fromkeys(("products", "rejected_rows", "unchanged", "planned"), 4)
    counts |= dict.fromkeys(("approved", "review", "rejected"), 1)
    key = keys.manifest_key("night-1")
    manifest = json.loads(store.get(key)) | {"counts": counts, "categories": {"cars": counts}}
    manifest |= dict.fromkeys(("started_at", "finished_at"), "2026-11-01T00:00:00+00:00")
    store.put(key, json.dumps(manifest).encode())
    plan = FrozenPlan(
        run_id="night-2",
        catalog_uri="catalog.parquet",
        catalog_sha256="a" * 64,
        settings=RunSettings(models={"main": "toys@0123456789ab"}),
        shards=(),
        counts=counts,
        categories={"cars": counts},
    )
    store.put(keys.plan_manifest_key("night-2"), plan.to_json().encode())
    found = [*store.list(), *store.list(".tmp/")]
    return {info.key: store.get(info.key) for info in found}


def damaged(key: str, data: bytes) -> MemoryStore:
    """The store with other content of one object."""
    store = MemoryStore()
    for name, content in objects().items():
        store.put(name, data if name == key else content)
    return store


def use(store: MemoryStore) -> None:
    """What reads the damaged objects; errors that have a name are all that may come of it."""
    assert isinstance(verify(store).problems, tuple)
    prune(store)
    with suppress(ToyganError, TableError):
        rewrite_report(store, "night-1")
    with suppress(ToyganError, TableError):
        load_shard(store, "night-2", 1)
    with suppress(ToyganError, TableError):
        key = keys.plan_manifest_key("night-2")
        FrozenPlan.from_json(store.get(key), key)


@pytest.mark.slow
@given(st.sampled_from(sorted(objects())), st.data())
@settings(max_examples=60, deadline=None)
def test_torn_and_flipped_bytes_are_named(key: str, data: st.DataObject) -> None:
    content = bytearray(objects()[key])
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    use(damaged(key, bytes(content[: data.draw(st.integers(0, len(content)))])))


@pytest.mark.slow
@given(st.sampled_from([keys.manifest_key("night-1"), keys.plan_manifest_key("night-2")]), st.data())
@settings(max_examples=60, deadline=None)
def test_json_with_other_values_is_named(key: str, data: st.DataObject) -> None:
    content = json.loads(objects()[key])
    place = content
    while True:
        name = data.draw(st.sampled_from(sorted(place)))
        if not (isinstance(place[name], dict) and place[name] and data.draw(st.booleans())):
            break
        place = place[name]
    if data.draw(st.booleans()):
        place[name] = data.draw(VALUES)
    else:
        del place[name]
    use(damaged(key, json.dumps(content).encode()))


def test_json_that_is_nested_too_deeply_is_named() -> None:
    for key in (keys.manifest_key("night-1"), keys.plan_manifest_key("night-2")):
        use(damaged(key, DEEP.encode()))
    verdict = verify(damaged(keys.manifest_key("night-1"), DEEP.encode()))
    assert any("runs/night-1.json: not JSON" in problem for problem in verdict.problems)


@pytest.mark.slow
@given(st.sampled_from(TABLES), st.data())
@settings(max_examples=60, deadline=None)
def test_tables_with_other_cells_are_named(key: str, data: st.DataObject) -> None:
    table = pq.read_table(pa.BufferReader(objects()[key]))
    field = data.draw(st.sampled_from(list(table.schema)))
    use(damaged(key, parquet_bytes(with_cell(table, field, data.draw(cells(field.type))))))


def cells(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_map(kind):
        digest = st.sampled_from(["a" * 64, "x", None])
        pairs = st.tuples(st.sampled_from(["sketch", "layout"]), digest)
        return st.lists(pairs, max_size=3) | st.none()
    if pa.types.is_list(kind):
        return st.lists(st.none() | st.text(max_size=4).filter(is_utf8), max_size=3) | st.none()
    if pa.types.is_string(kind):
        known = ["approved", "review", "rejected", "sketch", DEEP, "[]", '{"colour_hex": 7}', "../x", ""]
        return st.none() | st.sampled_from(known) | st.text(max_size=8).filter(is_utf8)
    if pa.types.is_timestamp(kind):
        return st.integers(-(2**63) + 1, 2**63 - 1) | st.none()
    if pa.types.is_floating(kind):
        return st.floats() | st.none()
    bits = kind.bit_width - 1
    return st.integers(-(2**bits), 2**bits - 1) | st.none()


def is_utf8(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def with_cell(table: pa.Table, field: pa.Field, value: Any) -> pa.Table:
    """The table with another value in the first row; its schema allows no value, too."""
    values = [value, *table[field.name].to_pylist()[1:]]
    column = pa.array(values, field.type) if not pa.types.is_timestamp(field.type) else None
    if column is None:
        column = pa.array([value, *table[field.name].cast(pa.int64()).to_pylist()[1:]], pa.int64())
        column = column.cast(field.type)
    loose = field.with_nullable(True)
    return table.set_column(table.schema.get_field_index(field.name), loose, column)


def test_a_text_that_is_no_utf8_is_named() -> None:
    key = keys.part_key("night-1", 0)
    table = pq.read_table(pa.BufferReader(objects()[key]))
    bad = pa.array([b"\xff\xfe"] * table.num_rows, pa.binary()).view(pa.string())
    position = table.schema.get_field_index("sku")
    verdict = verify(damaged(key, parquet_bytes(table.set_column(position, "sku", bad))))
    assert any(f"{key}: the Parquet object is damaged" in problem for problem in verdict.problems)


def test_a_plan_without_the_condition_that_it_names_is_reported() -> None:
    key = keys.plan_key("night-2", 1)
    rows = pq.read_table(pa.BufferReader(objects()[key])).to_pylist()
    rows[0]["image_condition"] = "sketch"
    verdict = verify(damaged(key, parquet_bytes(pa.Table.from_pylist(rows, PLAN))))
    assert any(f"{key}: sku-1-0 is to be generated from a 'sketch'" in each for each in verdict.problems)


def test_a_manifest_of_too_many_shards_is_reported() -> None:
    key = keys.manifest_key("night-1")
    content = json.loads(objects()[key]) | {"shards": 10**12}
    verdict = verify(damaged(key, json.dumps(content).encode()))
    assert any(f"{key}: the field 'shards'" in problem for problem in verdict.problems)
    assert Manifest.from_json(objects()[key]).shards == 2
