"""The photo index of a store and its quarantine: two tables that together have every checked upload."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from catalog_schemas.photos import (
    PHOTO_INDEX,
    QUARANTINE,
    read_photo_index,
    read_quarantine,
    write_photo_index,
    write_quarantine,
)
from catalog_schemas.validation import TableError
from toygan.data.photo_index import read_index, read_or_empty
from toygan.storage.keys import PHOTO_INDEX_KEY, QUARANTINE_KEY
from toygan.storage.store import PARQUET, ObjectStore
from toygan.storage.update import update
from toygan.uploads.new_categories import UNKNOWN_CATEGORY, photos_to_learn_from, so_far

log = logging.getLogger(__name__)

DUPLICATE = "a duplicate of "  # the beginning of a reason, which the URI of the original follows

FileId = tuple[str, int]  # key and size in bytes, as in a listing


@dataclass(frozen=True, kw_only=True)
class PhotoTables:
    """Both tables. A file in neither of them is inspected at the next listing."""

    index: pa.Table  # PHOTO_INDEX: the photos that can be used
    quarantine: pa.Table  # QUARANTINE: the others, with a reason


class Gone(NamedTuple):
    """Files whose rows are outdated.

    Those of `photos` are to be removed from the index, those of `others` from the quarantine.
    """

    photos: frozenset[FileId] = frozenset()
    others: frozenset[FileId] = frozenset()


class Changed(NamedTuple):
    """The index after a change, and how many files went into each table."""

    index: pa.Table
    added: int
    quarantined: int


def read_quarantined(store: ObjectStore) -> pa.Table:
    """Returns the photos in quarantine, QUARANTINE; raises TableError if the table is damaged."""
    return read_or_empty(store, QUARANTINE_KEY, read_quarantine, QUARANTINE)


def read_tables(store: ObjectStore) -> PhotoTables:
    """Returns both tables; raises TableError if one is damaged."""
    return PhotoTables(index=read_index(store), quarantine=read_quarantined(store))


def known_uploads(store: ObjectStore) -> list[str]:
    """Returns the keys of the photos that can be used, and of the photos whose category is not known yet."""
    tables = read_tables(store)
    waiting = pc.starts_with(tables.quarantine["reason"], UNKNOWN_CATEGORY)
    keys: list[str] = tables.index["photo_uri"].to_pylist()
    more: list[str] = tables.quarantine.filter(waiting)["photo_uri"].to_pylist()
    return keys + more


def photos_so_far(store: ObjectStore, categories: Sequence[str]) -> list[str]:
    """Returns a line for each of `categories` with the number of its photos and the number that a model
    needs.
    """
    try:
        uploads = known_uploads(store)
    except TableError:  # the next listing of the uploads reports the damaged table
        uploads = []
    counts = photos_to_learn_from(uploads, known=())
    return [so_far(name, counts) for name in categories]


def change_tables(
    store: ObjectStore,
    *,
    gone: Gone,
    photos: Sequence[Mapping[str, Any]],
    others: Sequence[Mapping[str, Any]],
) -> Changed:
    """Removes the rows of the files in `gone` and adds new rows. Writes only the tables that change.

    `photos` are rows of PHOTO_INDEX without `indexed_at`, which is set here. `others` are rows of QUARANTINE.
    A photo whose content is in the index already goes to the quarantine as a duplicate. If the store has
    conditional writes, changes by other processes are kept; otherwise the next listing repairs the tables.
    """
    placed: dict[str, _Placed] = {}

    def change_index(before: bytes | None) -> bytes | None:
        table = PHOTO_INDEX.empty_table() if before is None else read_photo_index(before)
        placed["now"] = _place(_without(table, gone.photos), photos)
        index = placed["now"].index
        return None if index.equals(table) else write_photo_index(index)

    update(store, PHOTO_INDEX_KEY, change_index, content_type=PARQUET)
    now = placed["now"]
    indexed = set(now.index["photo_uri"].to_pylist())

    def change_quarantine(before: bytes | None) -> bytes | None:
        table = QUARANTINE.empty_table() if before is None else read_quarantine(before)
        kept = _without(table, gone.others)
        known = indexed.union(kept["photo_uri"].to_pylist())
        rows = [row for row in (*others, *now.duplicates) if row["photo_uri"] not in known]
        after = _appended(kept, rows, QUARANTINE)
        return None if after.equals(table) else write_quarantine(after)

    update(store, QUARANTINE_KEY, change_quarantine, content_type=PARQUET)
    return Changed(now.index, now.added, len(others) + len(now.duplicates))


class _Placed(NamedTuple):
    index: pa.Table
    added: int
    duplicates: list[dict[str, Any]]  # as rows of QUARANTINE


def _place(index: pa.Table, photos: Sequence[Mapping[str, Any]]) -> _Placed:
    indexed = set(index["photo_uri"].to_pylist())
    first = dict(zip(index["sha256"].to_pylist(), index["photo_uri"].to_pylist(), strict=True))
    now = datetime.now(UTC)
    newest = pc.max(index["indexed_at"]).as_py()
    # The time is later than all earlier times, even if the clock was set back, because it separates new
    # photos from old photos.
    indexed_at = now if newest is None or newest < now else newest + timedelta(microseconds=1)
    added, duplicates = [], []
    for photo in photos:
        if photo["photo_uri"] in indexed:  # another process has indexed it
            continue
        original = first.setdefault(photo["sha256"], photo["photo_uri"])
        if original == photo["photo_uri"]:
            added.append({**photo, "indexed_at": indexed_at})
        else:
            known = {name: photo[name] for name in ("photo_uri", "sha256", "bytes")}
            duplicates.append({**known, "reason": f"{DUPLICATE}{original}", "seen_at": now})
    return _Placed(_appended(index, added, PHOTO_INDEX), len(added), duplicates)


def _without(table: pa.Table, gone: Collection[FileId]) -> pa.Table:
    if not gone:
        return table
    files = zip(table["photo_uri"].to_pylist(), table["bytes"].to_pylist(), strict=True)
    return table.filter(pa.array([file not in gone for file in files], pa.bool_()))


def _appended(table: pa.Table, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    if not rows:
        return table
    return pa.concat_tables([table, pa.Table.from_pylist(list(rows), schema=schema)]).sort_by("photo_uri")
