"""Stores with finished and unfinished runs, for the tests of verify and prune."""

import hashlib
import re
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from catalog_schemas.images import IMAGES, write_images
from catalog_schemas.runs import PLAN, Manifest
from catalog_schemas.validation import parquet_bytes
from toygan.planning.finished import Parts
from toygan.publishing.commit import make_live, publish_manifest
from toygan.publishing.commit_log import Commits, read_commits
from toygan.publishing.verify import verify
from toygan.storage import keys
from toygan.storage.memory import MemoryStore
from toygan.storage.store import ObjectStore

SHA256 = "ab" * 32


def image_id(run_id: str, shard: int, number: int, attempt: int) -> str:
    return hashlib.sha256(f"{run_id} {shard} {number} {attempt}".encode()).hexdigest()[:20]


def row(run_id: str, shard: int, number: int, attempt: int, decision: str) -> tuple[dict[str, Any], bytes]:
    """One metadata row and its picture. Products are named by their shard and number in it."""
    sku, name = f"sku-{shard}-{number}", image_id(run_id, shard, number, attempt)
    picture = f"picture {name}".encode()
    uri = {
        "approved": keys.image_key("cars", sku, name, "webp"),
        "review": keys.review_key(run_id, name, "webp"),
        "rejected": None,
    }[decision]
    kept = uri is not None
    return {
        "image_id": name,
        "sku": sku,
        "image_index": 0,
        "category": "cars",
        "run_id": run_id,
        "decision": decision,
        "reasons": [] if decision == "approved" else ["score_below_threshold"],
        "image_uri": uri,
        "sha256": hashlib.sha256(picture).hexdigest() if kept else None,
        "width": 64 if kept else None,
        "height": 64 if kept else None,
        "format": "webp" if kept else None,
        "bytes": len(picture) if kept else None,
        "model_name": "toys",
        "model_version": "0123456789ab",
        "model_family": "dcgan",
        "seed": 1,
        "attempt": attempt,
        "batch_size": 64,
        "engine": "torch 2",
        "p_real": 0.5,
        "phash": name[:16],
        "conditions": "{}",
        "condition_sha256": [],
        "row_fingerprint": SHA256,
        "generated_at": datetime(2026, 1, 1, tzinfo=UTC),
        "pipeline_version": "0",
        "digital_source_type": "x",
    }, picture


def put_part(store: ObjectStore, run_id: str, shard: int, rows: list[dict[str, Any]]) -> None:
    store.put(keys.part_key(run_id, shard), write_images(pa.Table.from_pylist(rows, IMAGES)))


def put_shard(store: ObjectStore, run_id: str, shard: int) -> list[dict[str, Any]]:
    """Four products: two approved, one of them at its second attempt, one to review, one rejected."""
    decided = [
        (0, 0, "approved"),
        (1, 0, "rejected"),
        (1, 1, "approved"),
        (2, 0, "review"),
        (3, 0, "rejected"),
    ]
    rows = []
    for number, attempt, decision in decided:
        each, picture = row(run_id, shard, number, attempt, decision)
        rows.append(each)
        if each["image_uri"]:
            store.put(each["image_uri"], picture)
    put_part(store, run_id, shard, rows)
    return rows


def put_plan(store: ObjectStore, run_id: str, shards: int, *, category: str = "cars") -> None:
    for shard in range(shards):
        slots = [
            {
                "row": number,
                "sku": f"sku-{shard}-{number}",
                "image_index": 0,
                "images_wanted": 1,
                "images_kept": 0,
                "first_attempt": 0,
                "attempts": 4,
                "category": category,
                "title": "Car",
                "condition_sha256": [],
                "row_fingerprint": SHA256,
                "sibling_phashes": [],
            }
            for number in range(4)
        ]
        store.put(keys.plan_key(run_id, shard), parquet_bytes(pa.Table.from_pylist(slots, PLAN)))
    store.put(keys.plan_manifest_key(run_id), b"{}")


def put_manifest(store: ObjectStore, run_id: str, shards: int) -> Manifest:
    commits = read_commits(store) or Commits()
    manifest = Manifest(
        **dict.fromkeys(("pipeline_version", "prefect_version", "catalog_uri", "catalog_sha256"), "x"),
        **dict.fromkeys(("started_at", "finished_at", "model_name", "model_version", "plan_sha256"), "x"),
        run_id=run_id,
        settings={},
        shards=shards,
        counts={},
        categories={},
        models={},
        commit=commits.open.get(run_id, commits.last + 1),
        incomplete={},
    )
    publish_manifest(store, manifest)
    return manifest


def put_live(store: ObjectStore, manifest: Manifest) -> None:
    make_live(store, manifest, Parts(store, manifest.run_id, manifest.shards))


def put_run(store: ObjectStore, run_id: str = "night-1", shards: int = 2) -> None:
    for shard in range(shards):
        put_shard(store, run_id, shard)
    store.put(keys.report_key(run_id), b"<html>")
    put_live(store, put_manifest(store, run_id, shards))


def content(store: ObjectStore) -> dict[str, bytes]:
    found = [*store.list(), *store.list(".tmp/")]
    return {info.key: store.get(info.key) for info in found}


@pytest.fixture
def store() -> MemoryStore:
    """A store with one finished run of two shards."""
    store = MemoryStore()
    put_run(store)
    return store


def check_problems(store: ObjectStore, wanted: list[str]) -> None:
    """The problems are exactly the wanted ones, one a line."""
    problems = verify(store).problems
    assert len(problems) == len(wanted), problems
    for problem, pattern in zip(problems, wanted, strict=True):
        assert re.search(pattern, problem), problem
        assert "\n" not in problem


NOT_LOOKED_FOR = "left-over objects were not looked for"


def killed_run(store: ObjectStore) -> None:
    """A run of two shards, killed in the second."""
    put_plan(store, "night-2", 2)
    put_shard(store, "night-2", 0)
    put_shard(store, "night-2", 1)
    store.delete(keys.part_key("night-2", 1))
