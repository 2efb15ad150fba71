"""The table of the last runs."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from catalog_schemas.images import REVIEW
from catalog_schemas.runs import NIGHTS, Manifest
from catalog_schemas.validation import read_parquet_bytes
from tests.toygan.generation.runs import put_manifest
from tests.toygan.publishing.store_pages import counts
from tests.toygan.review.shop import SETTINGS, commit, picture
from toygan.planning.summaries import read_summaries
from toygan.publishing import nights
from toygan.publishing.nights import rebuild_nights, record_night, review_backlog
from toygan.review.record import decide
from toygan.storage.keys import NIGHTS_KEY, manifest_key
from toygan.storage.memory import MemoryStore

NONE = read_summaries(MemoryStore())


def run(store: MemoryStore, number: int) -> Manifest:
    made = put_manifest(store, f"run-{number}", SETTINGS, commit=number, shards=0)
    totals = counts(unchanged=3, planned=4, approved=number % 4, review=1, exhausted=2)
    full = replace(made, counts=totals, categories={"brick": totals})
    store.put(manifest_key(full.run_id), full.to_json().encode())
    return full


def stored(store: MemoryStore) -> pa.Table:
    return read_parquet_bytes(store.get(NIGHTS_KEY), NIGHTS, NIGHTS_KEY)


def test_runs_one_by_one_give_the_table_of_all_manifests() -> None:
    store = MemoryStore()
    for number in (1, 2, 3):
        record_night(store, run(store, number), NONE)
    one_by_one = stored(store)
    assert one_by_one.num_rows == 6
    night = one_by_one.to_pylist()[-1]
    assert (night["wanted"], night["covered"], night["candidates"], night["category"]) == (9, 6, 4, None)
    assert rebuild_nights(store, NONE).equals(one_by_one)


def test_a_run_twice_counts_once_and_old_runs_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nights, "MOST_RUNS", 2)
    store = MemoryStore()
    for number in (1, 2, 3, 3):
        record_night(store, run(store, number), NONE)
    assert stored(store)["commit"].unique().to_pylist() == [2, 3]


def test_a_run_that_is_repeated_keeps_the_backlog_of_its_night(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    for number, backlog in ((1, 7), (2, 5), (1, 3)):
        monkeypatch.setattr(nights, "review_backlog", lambda summaries, found=backlog: found)
        record_night(store, run(store, number), NONE)
    whole = stored(store).filter(pc.is_null(stored(store)["category"]))
    assert dict(zip(whole["commit"].to_pylist(), whole["backlog"].to_pylist(), strict=True)) == {1: 7, 2: 5}


@pytest.mark.parametrize("content", [b"", b"not parquet"])
def test_a_damaged_table_is_made_anew(content: bytes) -> None:
    store = MemoryStore()
    first = run(store, 1)
    record_night(store, first, NONE)
    store.put(NIGHTS_KEY, content)
    record_night(store, run(store, 2), NONE)
    assert stored(store)["commit"].unique().to_pylist() == [1, 2]


def test_a_run_without_its_times_stops_no_page_of_the_store() -> None:
    store = MemoryStore()
    for number in (1, 2):
        run(store, number)
    manifest = Manifest.from_json(store.get(manifest_key("run-1")))
    store.put(manifest_key("run-1"), replace(manifest, started_at="yesterday").to_json().encode())
    assert rebuild_nights(store, NONE)["run_id"].unique().to_pylist() == ["run-2"]


def test_the_backlog_is_what_nobody_has_decided_about() -> None:
    store = MemoryStore()
    assert review_backlog(read_summaries(store)) == 0
    rows = [picture(0, "run-1"), *(picture(number, "run-1", REVIEW) for number in (1, 2, 3))]
    commit(store, "run-1", *rows)
    assert review_backlog(read_summaries(store)) == 3
    decide(store, "approve", [rows[1]["image_id"]], by="Ann", reason=None)
    decide(store, "reject", [rows[2]["image_id"]], by="Ann", reason=None)
    assert review_backlog(read_summaries(store)) == 1
