"""What finished runs left in a store."""

import pyarrow as pa

from catalog_schemas.images import IMAGES
from catalog_schemas.runs import Manifest
from catalog_schemas.validation import read_parquet_bytes
from toygan.errors import ObjectNotFound
from toygan.storage.keys import manifest_key, part_key
from toygan.storage.store import ObjectStore


def read_manifest(store: ObjectStore, run_id: str) -> Manifest | None:
    """None for a run that did not finish; raises TableError for a damaged manifest."""
    key = manifest_key(run_id)
    try:
        return Manifest.from_json(store.get(key), key)
    except ObjectNotFound:
        return None


def read_part(store: ObjectStore, run_id: str, shard: int) -> pa.Table:
    """The metadata rows of one shard; raises ObjectNotFound, or TableError for a damaged part."""
    key = part_key(run_id, shard)
    return read_parquet_bytes(store.get(key), IMAGES, key)
