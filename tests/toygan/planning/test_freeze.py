"""Where catalogs lie, settings, and plans that are frozen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.catalog_schemas.tables import product, write_catalog
from tests.toygan.generation.runs import candidate, put_current, put_manifest
from tests.toygan.planning.plans import (
    OTHER_MODELS,
    SCOPES,
    SETTINGS,
    everything,
    freeze,
    keys,
    rejected,
    settings_with,
)
from tests.toygan.planning.plans import three as three
from toygan.errors import BadInput, CatalogError, Conflict, ObjectNotFound, RunConflict
from toygan.planning.plan import (
    FrozenPlan,
    RunSettings,
    check_catalog,
    check_plan,
    load_shard,
)
from toygan.storage.keys import manifest_key, plan_key, plan_manifest_key, rejected_rows_key
from toygan.storage.memory import MemoryStore
from toygan.storage.open_store import open_store

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
    with pytest.raises(CatalogError, match=uri.rstrip("/")):
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

        def put_if(self, key: str, data: bytes, version: str | None, *, content_type: str = "") -> str:
            self.written.append(key)
            return super().put_if(key, data, version, content_type=content_type)

    store = Recording()
    freeze(store, three)
    assert store.written[-2:] == [rejected_rows_key("run-1"), plan_manifest_key("run-1")]


class Overtaken(MemoryStore):
    """A store in which another process plans, as `rival` does, just before the object `key` is written."""

    def __init__(self, key: str, rival: Callable[[MemoryStore], object]) -> None:
        super().__init__()
        self.key, self.rival, self.is_over = key, rival, False

    def put(self, key: str, data: bytes, *, content_type: str = "", cache_control: str | None = None) -> None:
        self._overtake(key)
        super().put(key, data, content_type=content_type, cache_control=cache_control)

    def put_if(self, key: str, data: bytes, version: str | None, *, content_type: str = "") -> str:
        self._overtake(key)
        return super().put_if(key, data, version, content_type=content_type)

    def _overtake(self, key: str) -> None:
        if key == self.key and not self.is_over:
            self.is_over = True
            self.rival(self)


WRITTEN = [plan_key("run-1", 0), rejected_rows_key("run-1"), plan_manifest_key("run-1")]


@pytest.mark.parametrize("moment", WRITTEN)
def test_of_two_processes_with_one_run_id_the_second_takes_the_plan_of_the_first(
    three: Path, moment: str
) -> None:
    """Even if the store has changed between, so that its own plan is another one."""
    plans = []

    def rival(store: MemoryStore) -> None:
        _, slots = freeze(store, three, "run-0")
        put_current(store, [candidate(slots[0], "run-0")])
        plans.append(freeze(store, three))

    assert freeze(Overtaken(moment, rival), three) == plans[0]


@pytest.mark.parametrize("moment", WRITTEN)
def test_of_two_processes_with_one_run_id_the_second_cannot_plan_something_else(
    three: Path, moment: str
) -> None:
    frozen: dict[str, bytes] = {}
    other = write_catalog(three.with_name("other.parquet"), [product(), product(sku="bad", category="?")])

    def rival(store: MemoryStore) -> None:
        freeze(store, other)
        frozen.update((key, store.get(key)) for key in everything(store))

    store = Overtaken(moment, rival)
    with pytest.raises(
        RunConflict, match=r"the run id run-1 belongs to a run with another catalog .* run id"
    ):
        freeze(store, three)
    assert {key: store.get(key) for key in frozen} == frozen


def test_two_processes_that_plan_at_the_same_time_are_told(three: Path) -> None:
    """A third one writes between each reading and writing of a shard."""

    class Busy(MemoryStore):
        def put_if(self, key: str, data: bytes, version: str | None, *, content_type: str = "") -> str:
            raise Conflict(key)

    store = Busy()
    store.put(plan_key("run-1", 0), b"of another process")
    with pytest.raises(RunConflict, match=r"another process is planning the run id run-1 .* another run id"):
        freeze(store, three)


def test_a_shard_of_another_plan_is_refused(three: Path) -> None:
    store = MemoryStore()
    plan, _ = freeze(store, three)
    load_shard(store, "run-1", 0, plan.shards[0].sha256)
    with pytest.raises(RunConflict, match=r"plan/00000\.parquet .* run id run-1 .* another run id"):
        load_shard(store, "run-1", 0, "0" * 64)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mode": "all"}, "mode is 'all', but was 'missing'"),
        ({"images_per_product": 3}, "images_per_product is 3, but was 1"),
        ({"categories": ("brick",)}, r"categories is \['brick'\], but was \[\]"),
        ({"limit": 1}, "limit is 1, but was None"),
        ({"format": "png"}, "format is 'png', but was 'webp'"),
        (
            {"models": OTHER_MODELS},
            "the main model is 'toybricks@ffffffffffff', but was 'toybricks@0123456789ab'",
        ),
        (
            {"models": {"main": "x@1"}, "limit": 3},
            "limit is 3, but was None; the main model is 'x@1', but was 'toybricks@0123456789ab'",
        ),
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
        ({"mode": "some"}, "'some' is not one of missing, refresh, retry, all"),
        ({"format": "gif"}, "'gif' is not one of webp, jpg, png"),
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
