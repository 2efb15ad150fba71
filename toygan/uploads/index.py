"""The photo index of a store and its quarantine: two tables that say of every upload what became of it."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from catalog_schemas.photos import (
    PHOTO_INDEX,
    QUARANTINE,
    read_photo_index,
    read_quarantine,
    write_photo_index,
    write_quarantine,
)
from toygan.errors import BadInput, ObjectNotFound
from toygan.parallel import in_order
from toygan.storage.keys import PHOTO_INDEX_KEY, QUARANTINE_KEY
from toygan.storage.store import PARQUET, ObjectStore

log = logging.getLogger(__name__)

READERS = 4  # files at a time; each may take 64 MiB, and 200 MB once it is decoded


@dataclass(frozen=True, kw_only=True)
class PhotoTables:
    """What is known of the uploads. A file is in one of the two, or is looked at when it is next listed."""

    index: pa.Table  # PHOTO_INDEX: the photos that can be used
    quarantine: pa.Table  # QUARANTINE: the others, with a reason


def read_index(store: ObjectStore) -> pa.Table:
    """The photo index as it is now, empty in a store without one; raises TableError when it is damaged."""
    return _read(store, PHOTO_INDEX_KEY, read_photo_index, PHOTO_INDEX)


def read_tables(store: ObjectStore) -> PhotoTables:
    """Both tables as they are now; raises TableError when one is damaged."""
    quarantine = _read(store, QUARANTINE_KEY, read_quarantine, QUARANTINE)
    return PhotoTables(index=read_index(store), quarantine=quarantine)


def write_tables(store: ObjectStore, before: PhotoTables, after: PhotoTables) -> None:
    """Writes what differs. Of two writers at the same moment the last one wins.

    What the other one found is then missing, never wrong: the next listing looks at those files again.
    """
    if not after.index.equals(before.index):
        store.put(PHOTO_INDEX_KEY, write_photo_index(after.index), content_type=PARQUET)
    if not after.quarantine.equals(before.quarantine):
        store.put(QUARANTINE_KEY, write_quarantine(after.quarantine), content_type=PARQUET)


def indexed_photos(
    store: ObjectStore, index: pa.Table | None = None
) -> Iterator[tuple[Mapping[str, Any], bytes]]:
    """The rows of `index` (by default the present one), each with its undecoded file, in the index's order.

    Files are read a few ahead and never all held. One that is gone, or is another than the one that was
    indexed, is left out and named in the log. Raises BadInput when the store has no indexed photo.
    """
    table = read_index(store) if index is None else index
    if not table.num_rows:
        raise BadInput(
            f"{store.uri} has no indexed photo; upload some below photos/ and run the flow watch-photos"
        )

    def read(row: Mapping[str, Any]) -> bytes | None:
        try:
            data = store.get(row["photo_uri"])
        except ObjectNotFound:
            log.warning("left out %s: it is in the photo index, but gone", row["photo_uri"])
            return None
        if hashlib.sha256(data).hexdigest() != row["sha256"]:
            log.warning(
                "left out %s: it has changed since it was indexed; upload it under a new name",
                row["photo_uri"],
            )
            return None
        return data

    rows = (row for batch in table.to_batches(max_chunksize=1024) for row in batch.to_pylist())
    with ThreadPoolExecutor(READERS) as pool:
        for row, data in in_order(pool, read, rows, ahead=2 * READERS):
            if data is not None:
                yield row, data


def _read(store: ObjectStore, key: str, parse: Callable[[bytes], pa.Table], contract: pa.Schema) -> pa.Table:
    try:
        return parse(store.get(key))
    except ObjectNotFound:
        return contract.empty_table()
