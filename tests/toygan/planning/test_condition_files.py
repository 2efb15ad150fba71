"""What products are drawn from, as it is planned: chosen by model, checked, and kept in the store."""

import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_schemas.validation import REJECTED_ROWS, read_parquet_bytes
from tests.catalog_schemas.tables import product, write_catalog
from tests.models import condition_file
from tests.toygan.generation.runs import MODELS, candidate, put_current, put_manifest, put_part
from toygan.conditions.condition_types import ImageCondition
from toygan.errors import BadInput, CatalogError
from toygan.planning import catalog as catalog_module
from toygan.planning import named_files
from toygan.planning.condition_files import read_kept
from toygan.planning.finished import Parts
from toygan.planning.plan import (
    FrozenPlan,
    ModelScope,
    RunSettings,
    Scopes,
    Slot,
    freeze_plan,
    load_shard,
)
from toygan.planning.pruning import read_mark
from toygan.publishing.commit import make_live
from toygan.storage.keys import CONDITIONS_PREFIX, condition_key, rejected_rows_key
from toygan.storage.memory import MemoryStore
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectStore

NONE_LEFT_ALONE = {"deferred": 0, "exhausted": 0}

SETTINGS = RunSettings(models={**MODELS, "sketch": "lines@111111111111", "layout": "masks@222222222222"})
SCOPES: Scopes = {
    "main": ModelScope(categories=frozenset({"brick", "car"})),
    "sketch": ModelScope(categories=frozenset({"brick", "wheel"})),
    "layout": ModelScope(categories=frozenset({"brick", "plant"}), layout_classes=3),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sketch, and layouts with the labels 0 to 2 and 0 to 3."""
    (tmp_path / "sketch.png").write_bytes(condition_file("sketch", 0))
    (tmp_path / "layout.png").write_bytes(condition_file("layout", 0, label=2))
    (tmp_path / "alien.png").write_bytes(condition_file("layout", 0, label=3))
    return tmp_path


def freeze(
    store: ObjectStore, folder: Path, rows: list[dict[str, Any]], run_id: str = "run-1", **changes: Any
) -> tuple[FrozenPlan, list[Slot]]:
    path = write_catalog(folder / f"{run_id}.parquet", rows)
    wanted = replace(SETTINGS, **changes)
    plan = freeze_plan(store, run_id, str(path), wanted, SCOPES)
    return plan, [slot for shard in range(len(plan.shards)) for slot in load_shard(store, run_id, shard)]


def rejected(store: ObjectStore, run_id: str = "run-1") -> list[tuple[Any, ...]]:
    key = rejected_rows_key(run_id)
    return [tuple(row.values()) for row in read_parquet_bytes(store.get(key), REJECTED_ROWS, key).to_pylist()]


def kept(store: ObjectStore) -> list[str]:
    return [info.key for info in store.list(CONDITIONS_PREFIX)]


BOTH = {"sketch_uri": "sketch.png", "layout_uri": "layout.png"}

CHOICES: list[tuple[str, dict[str, str], ImageCondition | str | None]] = [
    ("brick", {}, None),
    ("brick", {"sketch_uri": "sketch.png"}, "sketch"),
    ("brick", {"layout_uri": "layout.png"}, "layout"),
    ("brick", BOTH, "layout"),
    ("car", BOTH, None),  # no special model knows it
    ("wheel", BOTH, "sketch"),
    ("plant", BOTH, "layout"),
    ("wheel", {}, "none"),
    ("wheel", {"layout_uri": "layout.png"}, "none"),
    ("plant", {"sketch_uri": "sketch.png"}, "none"),
]


@settings(max_examples=10, deadline=None)
@given(st.lists(st.sampled_from(CHOICES), min_size=1, max_size=20))
def test_a_layout_comes_before_a_sketch_where_a_model_knows_the_category(
    tmp_path_factory: pytest.TempPathFactory, chosen: list[tuple[str, dict[str, str], str | None]]
) -> None:
    folder = tmp_path_factory.mktemp("catalog")
    (folder / "sketch.png").write_bytes(condition_file("sketch", 0))
    (folder / "layout.png").write_bytes(condition_file("layout", 0, label=2))
    rows = [product(sku=f"s{i}", category=category, **files) for i, (category, files, _) in enumerate(chosen)]
    wanted = {f"s{i}": kind for i, (_, _, kind) in enumerate(chosen) if kind != "none"}
    store = MemoryStore()
    if not wanted:
        with pytest.raises(CatalogError, match="no_model_for_category"):
            freeze(store, folder, rows)
        return
    plan, slots = freeze(store, folder, rows)
    assert {slot.sku: slot.image_condition for slot in slots} == wanted
    for number, shard in enumerate(plan.shards):
        assert {slot.category for slot in load_shard(store, "run-1", number)} == set(shard.categories)
    generated_from = {slot.condition_sha256[slot.image_condition] for slot in slots if slot.image_condition}
    assert kept(store) == sorted(map(condition_key, generated_from))
    assert [row[2:] for row in rejected(store)] == [
        ("category", f"no_model_for_category: {row['category']}") for row in rows if row["sku"] not in wanted
    ]
    assert FrozenPlan.from_json(plan.to_json(), "x") == plan


def test_what_is_kept_is_the_file(folder: Path) -> None:
    store = MemoryStore()
    _, [slot] = freeze(store, folder, [product(**BOTH)])
    assert slot.condition_sha256.keys() == {"sketch", "layout"}  # both count in the fingerprint
    data = read_kept(store, slot.condition_sha256["layout"])
    assert data == (folder / "layout.png").read_bytes()
    store.put(condition_key(slot.condition_sha256["layout"]), b"other")
    with pytest.raises(BadInput, match="is damaged; remove it and start a new run"):
        read_kept(store, slot.condition_sha256["layout"])


def test_a_cut_off_copy_in_the_store_is_replaced(folder: Path) -> None:
    store = MemoryStore()
    data = (folder / "layout.png").read_bytes()
    key = condition_key(sha256(data).hexdigest())
    store.put(key, data[:20])
    freeze(store, folder, [product(layout_uri="layout.png")])
    assert store.get(key) == data


def test_the_mark_of_a_plan_keeps_its_time(folder: Path) -> None:
    store = MemoryStore()
    freeze(store, folder, [product(**BOTH)])
    assert read_mark(store, "run-1") is not None


def test_rows_with_unusable_condition_files_are_set_aside(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "torn.png").write_bytes((folder / "layout.png").read_bytes()[:50])
    (folder / "photo.jpg").write_bytes(b"no picture")
    (folder / "large.png").write_bytes((folder / "sketch.png").read_bytes() + bytes(5000))
    monkeypatch.setattr(named_files, "MAX_CONDITION_BYTES", 2000)
    rows = [
        product(sku="good", **BOTH),
        product(sku="torn", layout_uri="torn.png"),
        product(sku="alien", layout_uri="alien.png"),
        product(sku="large", sketch_uri="large.png"),
        product(sku="text", sketch_uri="photo.jpg"),
        product(sku="half", layout_uri="layout.png", sketch_uri="none.png"),
        product(sku="car", category="car", layout_uri="alien.png"),  # drawn without it
    ]
    store = MemoryStore()
    plan, slots = freeze(store, folder, rows)
    assert sorted(slot.sku for slot in slots) == ["car", "good"]
    reasons = {row[1]: (row[2], row[3].partition(": ")[0]) for row in rejected(store)}
    assert reasons == {
        "torn": ("layout_uri", "condition_file_unusable"),
        "alien": ("layout_uri", "condition_file_unusable"),
        "large": ("sketch_uri", "condition_file_too_large"),
        "text": ("sketch_uri", "condition_file_unusable"),
        "half": ("sketch_uri", "condition_file_not_found"),
    }
    assert plan.counts == {"products": 2, "rejected_rows": 5, "unchanged": 0, "planned": 2, **NONE_LEFT_ALONE}
    assert len(kept(store)) == 1


def test_a_file_of_many_gigabytes_is_not_read(folder: Path) -> None:
    with (folder / "large.png").open("wb") as file:
        file.truncate(500 * 2**30)  # sparse
    rows = [product(sku="good", **BOTH), product(sku="large", sketch_uri="large.png")]
    near = MemoryStore()
    _, slots = freeze(near, folder, rows)
    assert [slot.sku for slot in slots] == ["good"]
    assert rejected(near) == [(1, "large", "sketch_uri", "condition_file_too_large: large.png")]


def test_the_size_of_an_object_is_looked_at_before_it_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, read = MemoryStore(), list[str]()
    for name in ("sketch.png", "layout.png"):
        bucket.put(name, (folder / name).read_bytes())
    bucket.put("large.png", bytes(3000))
    get = bucket.get

    def noted(key: str) -> bytes:
        read.append(key)
        return get(key)

    monkeypatch.setattr(bucket, "get", noted)
    monkeypatch.setattr(named_files, "MAX_CONDITION_BYTES", 2000)
    rows = [product(sku="good", **BOTH), product(sku="large", sketch_uri="large.png")]
    bucket.put("c.parquet", write_catalog(folder / "c.parquet", rows).read_bytes())
    monkeypatch.setattr(catalog_module, "open_store", lambda uri: bucket)
    store = MemoryStore()
    freeze_plan(store, "run-1", "s3://shop/c.parquet", SETTINGS, SCOPES)
    assert rejected(store) == [(1, "large", "sketch_uri", "condition_file_too_large: large.png")]
    assert "large.png" not in read
    assert "layout.png" in read


def test_links_that_lead_out_of_the_catalogs_folder_are_refused(folder: Path) -> None:
    inside, outside = folder / "catalog", folder / "outside"
    for place in (inside, outside):
        place.mkdir()
        (place / "a.png").write_bytes(condition_file("sketch", 0))
    (inside / "near.png").symlink_to("a.png")
    (inside / "far.png").symlink_to(outside / "a.png")
    (inside / "chain.png").symlink_to("far.png")
    (inside / "below").symlink_to(outside)
    (inside / "loop.png").symlink_to("loop.png")
    names = ("near.png", "far.png", "chain.png", "below/a.png", "loop.png")
    store = MemoryStore()
    rows = [product(sku=name.replace("/", "-"), sketch_uri=name) for name in names]
    _, slots = freeze(store, inside, rows)
    assert [slot.sku for slot in slots] == ["near.png"]
    assert [row[3] for row in rejected(store)] == [
        "leaves_folder: far.png",
        "leaves_folder: chain.png",
        "leaves_folder: below/a.png",
        "condition_file_unreadable: loop.png",
    ]


def test_a_pipe_in_the_place_of_a_file_sets_its_row_aside(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    store = MemoryStore()
    freeze(store, folder, [product(sku="good"), product(sku="pipe", sketch_uri="pipe.png")])
    assert rejected(store) == [(1, "pipe", "sketch_uri", "condition_file_unreadable: pipe.png")]


def test_nothing_is_written_if_no_row_can_be_generated(folder: Path) -> None:
    store = MemoryStore()
    with pytest.raises(CatalogError, match=r"layout_uri: condition_file_unusable \(2\)"):
        freeze(store, folder, [product(sku=sku, layout_uri="alien.png") for sku in "ab"])
    assert [info.key for prefix in ("", ".tmp/") for info in store.list(prefix)] == []


def test_a_limit_counts_products_that_can_be_generated(folder: Path) -> None:
    store = MemoryStore()
    rows = [
        product(sku=sku, layout_uri=f"{name}.png")
        for sku, name in zip("abc", ("alien", "layout", "layout"), strict=True)
    ]
    plan, slots = freeze(store, folder, rows, limit=1)
    assert [slot.sku for slot in slots] == ["b"]
    assert plan.counts == {"products": 1, "rejected_rows": 1, "unchanged": 0, "planned": 1, **NONE_LEFT_ALONE}


def test_a_file_that_changes_during_planning_sets_its_row_aside(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Changing(MemoryStore):
        """Gives another layout at the second look."""

        def get(self, key: str) -> bytes:
            data = super().get(key)
            if key == "layout.png":
                self.put(key, condition_file("layout", 1))
            return data

    bucket = Changing()
    bucket.put("layout.png", (folder / "layout.png").read_bytes())
    rows = [product(sku="a", layout_uri="layout.png"), product(sku="b")]
    bucket.put("c.parquet", write_catalog(folder / "c.parquet", rows).read_bytes())
    monkeypatch.setattr(catalog_module, "open_store", lambda uri: bucket)
    store = MemoryStore()
    plan = freeze_plan(store, "run-1", "s3://shop/c.parquet", SETTINGS, SCOPES)
    assert plan.counts["planned"] == 1
    assert rejected(store) == [(0, "a", "layout_uri", "condition_file_changed: layout.png")]
    assert kept(store) == []


def test_only_what_is_planned_is_read_and_kept(folder: Path) -> None:
    """What a live picture was drawn from is in the store by then, or not needed."""
    store = MemoryStore()
    rows = [product(sku="a", layout_uri="layout.png"), product(sku="b", sketch_uri="sketch.png")]
    _, slots = freeze(store, folder, rows)
    by_kind = {slot.image_condition: slot for slot in slots}
    live = candidate(by_kind["layout"], "run-1", model_name="masks", model_version="2" * 12)
    put_part(store, "run-1", [live])
    put_current(store, [live])
    for key in kept(store):
        store.delete(key)
    _, [slot] = freeze(store, folder, rows, "run-2")
    assert slot.sku == "b"
    assert kept(store) == [condition_key(slot.condition_sha256["sketch"])]


def test_refresh_asks_for_the_model_that_draws_the_product_now(folder: Path) -> None:
    store = MemoryStore()
    rows = [product(sku="a", layout_uri="layout.png"), product(sku="b"), product(sku="c", **BOTH)]
    _, slots = freeze(store, folder, rows)
    generated = {slot.sku: slot for slot in slots}
    live = [
        candidate(generated["a"], "run-1", model_name="masks", model_version="2" * 12),
        candidate(generated["b"], "run-1"),
        candidate(generated["c"], "run-1"),  # by the general model, when there was no other
    ]
    put_part(store, "run-1", live)
    put_current(store, live)
    assert freeze(store, folder, rows, "run-2")[1] == []
    _, again = freeze(store, folder, rows, "run-3", mode="refresh")
    assert [slot.sku for slot in again] == ["c"]


def test_attempts_are_counted_by_model(folder: Path) -> None:
    store = MemoryStore()
    rows = [product(sku="a", layout_uri="layout.png"), product(sku="b", layout_uri="layout.png")]
    _, slots = freeze(store, folder, rows)
    a, b = sorted(slots, key=lambda slot: slot.sku)
    masks = {"model_name": "masks", "model_version": "2" * 12}
    tries = [candidate(a, "run-1", attempt=number, decision="rejected", **masks) for number in range(4)]
    put_part(store, "run-1", [*tries, candidate(b, "run-1", attempt=7, decision="rejected")])
    another = RunSettings(models={"main": "another@" + "3" * 12})
    manifest = put_manifest(store, "run-1", another, models={SETTINGS.models["layout"]: {"rejected": 4}})
    make_live(store, manifest, Parts(store, "run-1", 1))
    _, slots = freeze(store, folder, rows, "run-2", mode="all")
    assert {slot.sku: slot.first_attempt for slot in slots} == {"a": 4, "b": 0}


def test_a_catalog_in_a_bucket_brings_its_files_along(folder: Path, s3_uri: str) -> None:
    rows = [product(sku="a", layout_uri="./layout.png"), product(sku="b", sketch_uri="none.png")]
    path = write_catalog(folder / "run-1.parquet", rows)
    bucket, near = open_store(f"{s3_uri}/shop"), MemoryStore()
    for name in ("run-1.parquet", "layout.png"):
        bucket.put(name, (folder / name).read_bytes())
    far = open_store(f"{s3_uri}/out")
    plan = freeze_plan(far, "run-1", f"{s3_uri}/shop/run-1.parquet", SETTINGS, SCOPES)
    assert plan.shards == freeze_plan(near, "run-1", str(path), SETTINGS, SCOPES).shards
    assert kept(far) == kept(near)
    assert [far.get(key) for key in kept(far)] == [(folder / "layout.png").read_bytes()]


def test_settings_are_read_as_they_were_written() -> None:
    assert RunSettings.from_json(SETTINGS.to_json()) == SETTINGS
    with pytest.raises(BadInput, match="no model can have the role 'line'"):
        RunSettings(models={"line": "lines@1"})  # type: ignore[dict-item]
