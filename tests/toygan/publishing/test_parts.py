"""Metadata parts, counts, manifests and the sweep of a run."""

from dataclasses import replace
from typing import Any

import pytest

from catalog_schemas.images import IMAGES
from catalog_schemas.validation import TableError
from tests.toygan.generation.runs import candidate, put_part
from tests.toygan.generation.slots import slot
from tests.toygan.publishing.commits import Run
from toygan.generation.run import pending_shards
from toygan.planning.finished import read_manifest, read_part
from toygan.publishing.commit import (
    publish_manifest,
    publish_report,
    sweep,
    tally,
)
from toygan.storage.keys import (
    CURRENT_KEY,
    manifest_key,
    part_key,
    plan_key,
    report_key,
)
from toygan.storage.memory import MemoryStore

# parts, counts, manifest, sweep


def test_a_shard_is_done_when_its_part_is_there() -> None:
    store = MemoryStore()
    assert pending_shards(store, "run-1", 3) == [0, 1, 2]
    put_part(store, "run-1", [candidate(slot(1), "run-1")], 1)
    put_part(store, "run-2", [], 0)
    assert pending_shards(store, "run-1", 3) == [0, 2]
    assert pending_shards(store, "run-1", 0) == []


def test_a_part_gives_its_rows_back() -> None:
    store = MemoryStore()
    rows = [candidate(slot(1), "run-1"), candidate(slot(2), "run-1", decision="rejected", reasons=["blank"])]
    put_part(store, "run-1", rows, 0)
    part = read_part(store, "run-1", 0)
    assert part.schema.names == IMAGES.names
    found: list[dict[str, Any]] = part.to_pylist(maps_as_pydicts="strict")
    assert found == rows


def test_a_row_that_breaks_the_contract_is_not_written() -> None:
    store = MemoryStore()
    with pytest.raises(TableError, match="sku"):
        put_part(store, "run-1", [candidate(slot(1), "run-1", sku=None)], 0)
    assert list(store.list()) == []


def test_candidates_are_counted_by_category_and_decision() -> None:
    store = MemoryStore()
    put_part(store, "run-1", [candidate(slot(1), "run-1"), candidate(slot(2), "run-1")], 0)
    others = [("car", "approved"), ("car", "review"), ("car", "rejected"), ("car", "rejected")]
    rows = [
        candidate(slot(number, category=category), "run-1", decision=decision)
        for number, (category, decision) in enumerate(others)
    ]
    rows[-1]["p_real"] = None
    put_part(store, "run-1", rows, 1)
    put_part(store, "run-1", [], 2)
    outcome = tally(read_part(store, "run-1", shard) for shard in range(3))
    assert outcome.counts == {"approved": 3, "review": 1, "rejected": 2, "not_finite": 1}
    assert outcome.categories == {
        "brick": {"approved": 2, "review": 0, "rejected": 0},
        "car": {"approved": 1, "review": 1, "rejected": 2},
    }
    assert tally([]).counts == {"approved": 0, "review": 0, "rejected": 0, "not_finite": 0}


def test_a_manifest_gives_itself_back() -> None:
    store = MemoryStore()
    manifest = replace(Run(run_id="run-1", commit=1, decisions={}).manifest(), counts={"planned": 3})
    assert read_manifest(store, "run-1") is None
    publish_manifest(store, manifest)
    assert read_manifest(store, "run-1") == manifest
    store.put(manifest_key("run-1"), b"{}")
    with pytest.raises(TableError, match=r"runs/run-1\.json"):
        read_manifest(store, "run-1")


def test_a_report_is_stored_as_text() -> None:
    store = MemoryStore()
    publish_report(store, "run-1", "<p>Größe</p>")
    assert store.get(report_key("run-1")).decode() == "<p>Größe</p>"


def test_the_sweep_takes_what_is_unfinished_of_this_run_only() -> None:
    store = MemoryStore()
    kept = [plan_key("run-10", 0), ".tmp/run/plan.json", part_key("run-1", 0), CURRENT_KEY]
    for key in [*kept, plan_key("run-1", 0), plan_key("run-1", 1), ".tmp/run-1/plan.json"]:
        store.put(key, b"")
    sweep(store, "run-1")
    sweep(store, "run-1")
    assert {info.key for prefix in ("", ".tmp/") for info in store.list(prefix)} == set(kept)
