"""From a listing of the uploads to the photo index: every new file is looked at once.

A file that is known is not read again; it is known by its key and size, which is what a listing tells, so a
file of another content and the same size under the same key goes unnoticed here (and is left out when it is
read, see `toygan.uploads.index.indexed_photos`). What has gone from the store goes from the tables. Files are
never changed or deleted.
"""

import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from catalog_schemas.photos import PHOTO_INDEX, QUARANTINE
from toygan.errors import BadInput, ObjectNotFound, StoreUnavailable
from toygan.parallel import in_order
from toygan.storage.keys import PHOTOS_PREFIX
from toygan.storage.store import ObjectStore
from toygan.uploads.index import READERS, PhotoTables, read_tables, write_tables
from toygan.uploads.inspection import MAX_BYTES, inspect_photo, parse_photo_key

log = logging.getLogger(__name__)

# Reasons that may cease to hold while the file stays as it is.
DUPLICATE = "a duplicate of "
UNKNOWN_CATEGORY = "unknown category "

_FILES_A_COMMIT = 1000  # what is lost, at most, when a first listing of very many is interrupted
_UNREAD_LIMIT = 8  # so many unreadable files, and it is the store that has a problem


@dataclass(frozen=True, kw_only=True)
class IndexingResult:
    """What one listing changed, in files."""

    index: pa.Table  # PHOTO_INDEX, as it is now
    listed: int
    added: int
    quarantined: int
    removed: int  # from either table: the file is gone or has changed
    unread: int  # the store did not give them; they are tried again


class _Judged(NamedTuple):
    """One file: a row of PHOTO_INDEX, or a reason, or neither when it could not be read."""

    key: str
    size: int
    row: Mapping[str, Any] | None = None
    reason: str | None = None

    @property
    def is_unread(self) -> bool:
        return self.row is None and self.reason is None


def index_uploads(store: ObjectStore, known_categories: Collection[str] | None = None) -> IndexingResult:
    """Lists the uploads and brings both tables up to date; an unchanged listing writes nothing.

    With `known_categories` photos of any other go to the quarantine, and leave it when theirs becomes known.
    Of files with the same content the first one stays; another takes its place when it is gone. Raises
    TableError for a damaged index and StoreUnavailable when the store does not answer; what was committed
    until then stays.
    """
    listed = {
        info.key: info.size
        for info in store.list(PHOTOS_PREFIX)
        if not info.key.endswith("/")  # what some S3 browsers make of a folder
    }
    before = read_tables(store)
    tables = _still_valid(before, listed, known_categories)
    removed = before.index.num_rows + before.quarantine.num_rows
    removed -= tables.index.num_rows + tables.quarantine.num_rows
    done = {*tables.index["photo_uri"].to_pylist(), *tables.quarantine["photo_uri"].to_pylist()}
    new = [(key, size) for key, size in listed.items() if key not in done]
    unread = 0
    for judged in _judge_all(store, new, known_categories):
        unread += sum(each.is_unread for each in judged)
        after = _place(tables, judged)
        write_tables(store, before, after)
        before = tables = after
    write_tables(store, before, tables)
    added = sum(1 for key in tables.index["photo_uri"].to_pylist() if key not in done)
    return IndexingResult(
        index=tables.index,
        listed=len(listed),
        added=added,
        quarantined=len(new) - added - unread,
        removed=removed,
        unread=unread,
    )


def index_when_quiet(
    store: ObjectStore,
    known_categories: Collection[str] | None = None,
    *,
    quiet_s: float,
    patience_s: float,
) -> pa.Table:
    """The photo index once nothing has been uploaded for `quiet_s`, or after `patience_s` of waiting.

    Lists at least twice, `quiet_s` apart: so it sees every file that was uploaded up to then. Raises as
    `index_uploads` does.
    """
    give_up_at = time.monotonic() + patience_s
    index_uploads(store, known_categories)
    while True:
        time.sleep(quiet_s)
        result = index_uploads(store, known_categories)
        if not (result.added or result.quarantined or result.removed) or time.monotonic() > give_up_at:
            return result.index


def _still_valid(
    tables: PhotoTables, listed: Mapping[str, int], known_categories: Collection[str] | None
) -> PhotoTables:
    """The rows whose file is still there and, in the quarantine, whose reason still holds."""

    def is_there(table: pa.Table) -> list[bool]:
        pairs = zip(table["photo_uri"].to_pylist(), table["bytes"].to_pylist(), strict=True)
        return [listed.get(key) == size for key, size in pairs]

    index = tables.index.filter(pa.array(is_there(tables.index), pa.bool_()))
    indexed, contents = set(index["photo_uri"].to_pylist()), set(index["sha256"].to_pylist())

    def holds(row: Mapping[str, Any]) -> bool:
        if row["photo_uri"] in indexed:
            return False
        if row["reason"].startswith(DUPLICATE):
            return row["sha256"] in contents
        if row["reason"].startswith(UNKNOWN_CATEGORY):
            category = parse_photo_key(row["photo_uri"]).category
            return known_categories is not None and category not in known_categories
        return True

    quarantine = tables.quarantine.filter(pa.array(is_there(tables.quarantine), pa.bool_()))
    quarantine = quarantine.filter(pa.array(map(holds, quarantine.to_pylist()), pa.bool_()))
    return PhotoTables(index=index, quarantine=quarantine)


def _judge_all(
    store: ObjectStore, files: Sequence[tuple[str, int]], known_categories: Collection[str] | None
) -> Iterator[list[_Judged]]:
    """Judges in the order of the files, a commit's worth at a time."""

    def judge(file: tuple[str, int]) -> _Judged:
        return _judge(store, *file, known_categories)

    unread: list[str] = []
    with ThreadPoolExecutor(READERS) as pool:
        judged = (each for _, each in in_order(pool, judge, files, ahead=4 * READERS))
        while chunk := list(islice(judged, _FILES_A_COMMIT)):
            unread += [each.key for each in chunk if each.is_unread]
            yield chunk
            if len(unread) > _UNREAD_LIMIT:
                raise StoreUnavailable(
                    f"{store.uri}: {len(unread)} photos could not be read, {unread[0]} first"
                )


def _judge(store: ObjectStore, key: str, size: int, known_categories: Collection[str] | None) -> _Judged:
    try:
        category = parse_photo_key(key).category
        if known_categories is not None and category not in known_categories:
            known = ", ".join(sorted(known_categories))
            raise BadInput(f"{UNKNOWN_CATEGORY}{category!r}; known are {known}")
        if size > MAX_BYTES:
            raise BadInput(f"the file has {size:,} bytes, more than {MAX_BYTES:,}; scale the picture down")
        data = store.get(key)
        return _Judged(key, size, row=inspect_photo(key, data))
    except (ObjectNotFound, StoreUnavailable) as error:
        log.warning("could not read %s: %s", key, error)
        return _Judged(key, size)
    except BadInput as error:
        return _Judged(key, size, reason=str(error))
    except Exception as error:
        log.exception("could not make anything of %s", key)
        return _Judged(key, size, reason=f"could not be decoded ({type(error).__name__}: {error})")


def _place(tables: PhotoTables, judged: Sequence[_Judged]) -> PhotoTables:
    """The tables with these files, each in one of them; a second file of the same content is a duplicate."""
    first = dict(zip(tables.index["sha256"].to_pylist(), tables.index["photo_uri"].to_pylist(), strict=True))
    now = datetime.now(UTC)
    photos, others = [], []
    for each in judged:
        reason, sha256 = each.reason, None
        if each.row is not None:
            sha256 = each.row["sha256"]
            original = first.setdefault(sha256, each.key)
            if original == each.key:
                photos.append(each.row)
                continue
            reason = f"{DUPLICATE}{original}"
        if reason is not None:
            others.append(
                {
                    "photo_uri": each.key,
                    "sha256": sha256,
                    "bytes": each.size,
                    "reason": reason,
                    "seen_at": now,
                }
            )
    indexed_at = _after_all(tables.index, now)
    rows = [{**photo, "indexed_at": indexed_at} for photo in photos]
    return PhotoTables(
        index=_appended(tables.index, rows, PHOTO_INDEX),
        quarantine=_appended(tables.quarantine, others, QUARANTINE),
    )


def _appended(table: pa.Table, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    if not rows:
        return table
    return pa.concat_tables([table, pa.Table.from_pylist(list(rows), schema=schema)]).sort_by("photo_uri")


def _after_all(index: pa.Table, now: datetime) -> datetime:
    """A time behind that of every row, whatever the clock says: new photos are told from old ones by it."""
    newest = pc.max(index["indexed_at"]).as_py()
    return now if newest is None or newest < now else newest + timedelta(microseconds=1)
