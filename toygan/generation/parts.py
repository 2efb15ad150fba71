"""The metadata of a shard: written when the shard is done, and missing until then."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from catalog_schemas.images import (
    IMAGES,
    write_images,
)
from toygan.storage.keys import (
    metadata_prefix,
    part_key,
)
from toygan.storage.store import PARQUET, ObjectStore


def publish_part(store: ObjectStore, run_id: str, shard: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes the metadata of a shard, after all its pictures. This marks the shard as done."""
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=IMAGES)
    store.put(part_key(run_id, shard), write_images(table), content_type=PARQUET)


def pending_shards(store: ObjectStore, run_id: str, shards: int) -> list[int]:
    """Returns the shards without a part. An interrupted shard is computed again, with the same result."""
    if not shards:
        return []
    done = {info.key for info in store.list(metadata_prefix(run_id))}
    return [shard for shard in range(shards) if part_key(run_id, shard) not in done]
