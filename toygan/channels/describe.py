"""Looks up the metadata of live pictures in the parts of the runs that made them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from catalog_schemas.validation import TableError
from toygan.errors import ObjectNotFound
from toygan.planning.finished import read_manifest, read_part
from toygan.storage.store import ObjectStore


def describe(store: ObjectStore, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the metadata of pictures by image id, from the parts of the runs that made them.

    Leaves out pictures whose metadata is missing or damaged.
    """
    by_run: dict[str, list[str]] = {}
    for row in rows:
        by_run.setdefault(row["run_id"], []).append(row["image_id"])
    found: dict[str, dict[str, Any]] = {}
    for run_id, image_ids in by_run.items():
        for part in _parts_at_hand(store, run_id):
            mine = part.filter(pc.is_in(part["image_id"], pa.array(image_ids, pa.string())))
            columns = ["image_id", "title", "language", "colour", "handle", "condition_sha256"]
            found |= {each["image_id"]: each for each in mine.select(columns).to_pylist()}
    return found


def _parts_at_hand(store: ObjectStore, run_id: str) -> Iterator[pa.Table]:
    """Yields the metadata of a run, without the parts that are missing or damaged."""
    try:
        manifest = read_manifest(store, run_id)
    except TableError:
        return
    for shard in range(manifest.shards if manifest else 0):
        with suppress(ObjectNotFound, TableError):
            yield read_part(store, run_id, shard)
