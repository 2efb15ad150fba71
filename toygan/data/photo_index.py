"""Reads the photo index of a store: the table of the uploads that a model can be trained on."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from catalog_schemas.photos import PHOTO_INDEX, read_photo_index
from catalog_schemas.validation import TableError
from toygan.errors import BadInput, ObjectNotFound
from toygan.parallel import in_order
from toygan.storage.keys import PHOTO_INDEX_KEY
from toygan.storage.store import ObjectStore

log = logging.getLogger(__name__)

# the number of files that are read at the same time; a file may take 64 MiB, and 200 MB when decoded
READERS = 4


def read_index(store: ObjectStore) -> pa.Table:
    """Returns the photo index, or an empty table if the store has no index.

    Raises TableError if the index is damaged.
    """
    return read_or_empty(store, PHOTO_INDEX_KEY, read_photo_index, PHOTO_INDEX)


def indexed_photos(
    store: ObjectStore, index: pa.Table | None = None
) -> Iterator[tuple[Mapping[str, Any], bytes]]:
    """Yields the rows of `index` in their order, each with its undecoded file. The default index is that of
    the store.

    It reads only a few files ahead. It skips a file that is missing or has changed since it was indexed, and
    logs its name. Raises BadInput if the index is empty.
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
            log.warning("left out the photo %s: it is indexed, but not in the store", row["photo_uri"])
            return None
        if hashlib.sha256(data).hexdigest() != row["sha256"]:
            log.warning(
                "left out the photo %s: it has changed since it was indexed; upload it under a new name",
                row["photo_uri"],
            )
            return None
        return data

    rows = (row for batch in table.to_batches(max_chunksize=1024) for row in batch.to_pylist())
    with ThreadPoolExecutor(READERS) as pool:
        for row, data in in_order(pool, read, rows, ahead=2 * READERS):
            if data is not None:
                yield row, data


def read_or_empty(
    store: ObjectStore, key: str, parse: Callable[[bytes], pa.Table], contract: pa.Schema
) -> pa.Table:
    """Returns the table at `key`, or an empty table of the `contract` if there is no object.

    Raises TableError, with the remedy, if the table is damaged.
    """
    try:
        return parse(store.get(key))
    except ObjectNotFound:
        return contract.empty_table()
    except TableError as error:
        raise TableError(f"{error}; remove {key}; the next listing of the uploads makes it again") from error
