"""Finished runs for the tests: what a run leaves in a store, without its pictures."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pyarrow as pa

from catalog_schemas.images import (
    APPROVED,
    CURRENT,
    FILE_COLUMNS,
    IMAGES,
    MACHINE,
    OF_CANDIDATE,
    write_current,
    write_images,
)
from catalog_schemas.runs import Manifest
from toygan.conditions.condition_types import ModelRole
from toygan.planning.plan import RunSettings, Slot
from toygan.storage.keys import CURRENT_KEY, image_key, manifest_key, part_key
from toygan.storage.store import ObjectStore

MODEL = {"model_name": "toybricks", "model_version": "0123456789ab"}
MODELS: dict[ModelRole, str] = {"main": "toybricks@0123456789ab"}


def candidate(slot: Slot, run_id: str, **changes: Any) -> dict[str, Any]:
    """The metadata row of an approved first attempt; without a file if `decision` is changed to rejected."""
    image_id = sha256(f"{slot.sku} {slot.image_index} {run_id}".encode()).hexdigest()[:20]
    row = {
        "image_id": image_id,
        "sku": slot.sku,
        "image_index": slot.image_index,
        "category": slot.category,
        "title": slot.title,
        "language": slot.language,
        "colour": slot.colour,
        "handle": slot.attributes.get("handle"),
        "run_id": run_id,
        "decision": APPROVED,
        "reasons": [],
        "image_uri": image_key(slot.category, slot.sku, image_id, "webp"),
        "sha256": "a" * 64,
        "width": 64,
        "height": 64,
        "format": "webp",
        "bytes": 1000,
        **MODEL,
        "model_family": "dcgan",
        "seed": 1,
        "attempt": slot.first_attempt,
        "batch_size": 32,
        "engine": "torch 2",
        "truncation": 1.0,
        "logit": 0.0,
        "p_real": 0.5,
        "threshold": 0.4,
        "phash": f"{slot.image_index:016x}",
        "fill_ratio": 0.3,
        "background_white": 0.9,
        "colour_delta_e": 3.0,
        "conditions": "{}",
        "condition_sha256": {},
        "row_fingerprint": slot.row_fingerprint,
        "generated_at": datetime(2026, 11, 1, tzinfo=UTC),
        "pipeline_version": "0.1.0",
        "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
        **changes,
    }
    return row if row["decision"] == APPROVED else {**row, **dict.fromkeys(FILE_COLUMNS)}


def put_part(store: ObjectStore, run_id: str, rows: Iterable[Mapping[str, Any]], shard: int = 0) -> None:
    """The metadata of a shard."""
    store.put(part_key(run_id, shard), write_images(pa.Table.from_pylist(list(rows), schema=IMAGES)))


def put_current(store: ObjectStore, rows: Iterable[Mapping[str, Any]], commit: int = 1) -> None:
    """Make rows live: all that are live then."""
    picked = [
        {name: row[name] for name in OF_CANDIDATE} | {"commit": commit, "decided_by": MACHINE} for row in rows
    ]
    store.put(CURRENT_KEY, write_current(pa.Table.from_pylist(picked, schema=CURRENT)))


def put_manifest(
    store: ObjectStore,
    run_id: str,
    settings: RunSettings,
    catalog_sha256: str = "b" * 64,
    shards: int = 1,
    models: Mapping[str, Mapping[str, int]] | None = None,
    commit: int = 1,
) -> Manifest:
    """Say that the run is finished."""
    manifest = Manifest(
        run_id=run_id,
        pipeline_version="0.1.0",
        prefect_version="3.8.8",
        started_at="2026-11-01T00:00:00+00:00",
        finished_at="2026-11-01T00:01:00+00:00",
        catalog_uri="catalog.parquet",
        catalog_sha256=catalog_sha256,
        settings=settings.to_json(),
        model_name=settings.models["main"].split("@")[0],
        model_version=settings.models["main"].split("@")[1],
        plan_sha256="c" * 64,
        shards=shards,
        counts={"products": 7},
        categories={"brick": {"products": 7}},
        models=models or {},
        commit=commit,
        incomplete={},
    )
    store.put(manifest_key(run_id), manifest.to_json().encode())
    return manifest
