"""What verify says of unfinished runs and of summaries."""

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from catalog_schemas.images import ATTEMPTS, read_current
from catalog_schemas.runs import Manifest
from catalog_schemas.validation import parquet_bytes, read_parquet_bytes
from tests.toygan.publishing.stores import (
    NOT_LOOKED_FOR,
    check_problems,
    content,
    killed_run,
    put_live,
    put_manifest,
    put_plan,
    put_run,
    put_shard,
    row,
)
from tests.toygan.publishing.stores import store as store
from toygan.errors import StoreConfigError
from toygan.publishing.commit_log import reserve
from toygan.publishing.verify import Verdict, prune, verify
from toygan.storage import keys
from toygan.storage.memory import MemoryStore
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectInfo, ObjectStore


def test_an_unfinished_run_is_no_problem_and_prune_spares_it(store: MemoryStore) -> None:
    killed_run(store)
    store.put("images/cars/sku-elsewhere/x.webp", b"1")
    before = content(store)
    verdict = verify(store)
    assert verdict.open_runs == ("night-2",)
    assert verdict.left_over == ("images/cars/sku-elsewhere/x.webp",)
    assert prune(store) == ["images/cars/sku-elsewhere/x.webp"]
    del before["images/cars/sku-elsewhere/x.webp"]
    assert content(store) == before
    put_run(store, "night-2", 2)
    check_problems(store, [])


def test_a_finished_shard_of_an_unfinished_run_has_its_pictures(store: MemoryStore) -> None:
    killed_run(store)
    gone = row("night-2", 0, 0, 0, "approved")[0]["image_uri"]
    store.delete(gone)
    check_problems(store, [f"{gone}: missing, although metadata/run=night-2/part-00000"])


def test_a_plan_that_cannot_be_read_hides_what_is_left_over(store: MemoryStore) -> None:
    killed_run(store)
    store.put(keys.plan_key("night-2", 1), b"broken")
    check_problems(store, ["plan/00001.parquet.*damaged", NOT_LOOKED_FOR])
    assert prune(store) == []


def test_a_run_that_was_given_up_is_left_over(store: MemoryStore) -> None:
    whole = content(store)
    killed_run(store)
    for info in list(store.list(".tmp/")):
        store.delete(info.key)
    made = sorted(content(store).keys() - whole.keys())
    verdict = verify(store)
    assert list(verdict.left_over) == made
    assert len(verdict.problems) == len(made) == 7
    removed = prune(store)
    assert sorted(removed) == made
    assert removed[0] == "metadata/run=night-2/part-00000.parquet"
    assert content(store) == whole
    check_problems(store, [])


def test_unfinished_files_of_a_finished_run_are_swept_silently(store: MemoryStore) -> None:
    whole = content(store)
    put_plan(store, "night-1", 2)
    store.put(".tmp/night-3/plan/00000.parquet", b"a plan that is still being written")
    check_problems(store, [])
    assert prune(store) == [
        ".tmp/night-1/plan.json",
        ".tmp/night-1/plan/00000.parquet",
        ".tmp/night-1/plan/00001.parquet",
    ]
    assert content(store).keys() == {*whole, ".tmp/night-3/plan/00000.parquet"}


def test_older_pictures_of_finished_runs_stay(store: MemoryStore) -> None:
    """A later run replaces rows of the live table; the pictures that were live before keep their run."""
    put_run(store, "night-2", 2)
    assert not set(read_current(store.get(keys.CURRENT_KEY))["run_id"].to_pylist()) & {"night-1"}
    check_problems(store, [])
    assert prune(store) == []


def test_nothing_at_all_is_a_mistyped_address(tmp_path: Path) -> None:
    for empty in (MemoryStore(), open_store(tmp_path / "nowhere")):
        for call in (verify, prune):
            with pytest.raises(StoreConfigError, match="nothing here"):
                call(empty)
    assert not (tmp_path / "nowhere").exists()


def test_a_store_without_runs_is_whole() -> None:
    store = MemoryStore()
    store.put("models/aliases.json", b"{}")
    verdict = verify(store)
    assert (verdict.problems, verdict.finished_runs, verdict.pictures) == ((), 0, 0)


class BusyStore(MemoryStore):
    """A store in which other people's work goes on after the n-th read of whoever looks at it."""

    def __init__(self, work: Callable[[MemoryStore], None], after_reads: int) -> None:
        super().__init__()
        self._work, self._left, self._counting = work, after_reads, threading.RLock()
        self.armed = False

    def _count(self) -> None:
        with self._counting:
            if not self.armed:
                return
            self._left -= 1
            if self._left == 0:
                self.armed = False
                self._work(self)

    def get(self, key: str) -> bytes:
        data = super().get(key)
        self._count()
        return data

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        found = list(super().list(prefix))
        self._count()
        return iter(found)


def steps_of_a_run(run_id: str) -> list[Callable[[ObjectStore], object]]:
    """A run of two shards, as far as the store sees it."""

    def pictures(shard: int, store: ObjectStore) -> None:
        put_shard(store, run_id, shard)
        store.delete(keys.part_key(run_id, shard))

    def commit(store: ObjectStore) -> None:
        put_live(store, Manifest.from_json(store.get(keys.manifest_key(run_id))))

    def sweep(store: ObjectStore) -> None:
        for info in list(store.list(keys.tmp_prefix(run_id))):
            store.delete(info.key)

    return [
        lambda store: store.put(keys.planning_key(run_id), b""),
        lambda store: put_plan(store, run_id, 2),
        lambda store: pictures(0, store),
        lambda store: put_shard(store, run_id, 0),
        lambda store: pictures(1, store),
        lambda store: put_shard(store, run_id, 1),
        lambda store: reserve(store, run_id),
        lambda store: put_manifest(store, run_id, 2),
        commit,
        sweep,
    ]


@pytest.mark.parametrize("look", [verify, pytest.param(prune, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "first_steps", [2, *(pytest.param(each, marks=pytest.mark.slow) for each in range(10) if each != 2)]
)
def test_a_run_that_is_finished_meanwhile_is_neither_hurt_nor_blamed(
    look: Callable[[ObjectStore], object], first_steps: int
) -> None:
    steps = steps_of_a_run("night-2")

    def finish(store: ObjectStore) -> None:
        for step in steps[first_steps:]:
            step(store)

    for after_reads in itertools.count(1):
        store = BusyStore(finish, after_reads)
        put_run(store, "night-1", 1)
        for step in steps[:first_steps]:
            step(store)
        store.armed = True
        found = look(store)
        if store.armed:  # it needed fewer reads than that: every moment has had its turn
            break
        if isinstance(found, Verdict):
            assert found.problems == ()
        check_problems(store, [])
        assert len(list(store.list(keys.IMAGES_PREFIX))) == 6


# summaries


def change_table(
    store: ObjectStore, key: str, schema: pa.Schema, change: Callable[[list[dict[str, Any]]], object]
) -> None:
    rows = read_parquet_bytes(store.get(key), schema, key).to_pylist()
    change(rows)
    store.put(key, parquet_bytes(pa.Table.from_pylist(rows, schema)))


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda rows: rows.pop(), "some results of finished runs are missing"),
        (lambda rows: rows[0].update(attempts=0), "some results of finished runs are missing"),
        (lambda rows: rows[0].update(attempts=9), "holds results that no finished run has"),
        (lambda rows: rows.append({**rows[0], "sku": "x"}), "holds results that no finished run has"),
    ],
)
def test_attempts_that_contradict_the_metadata_are_reported(
    change: Callable[[list[dict[str, Any]]], object], wanted: str, store: MemoryStore
) -> None:
    change_table(store, keys.ATTEMPTS_KEY, ATTEMPTS, change)
    check_problems(store, [f"attempts.parquet: {wanted}.*remove it; the next run makes it again"])


def test_a_picture_older_than_the_last_commit_is_reported(store: MemoryStore) -> None:
    """As clocks once had it: the run is finished, and what it approved is not live."""
    before = store.get(keys.CURRENT_KEY)
    put_run(store, "night-2")
    store.put(keys.CURRENT_KEY, before)
    check_problems(store, ["current.parquet: some results of finished runs or decisions are missing"])


def test_lost_commits_are_reported(store: MemoryStore) -> None:
    store.delete(keys.COMMITS_KEY)
    check_problems(store, ["commits.json: missing; the next run makes it again"])
