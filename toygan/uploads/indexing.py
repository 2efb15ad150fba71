"""Lists the uploads and updates the photo index: inspects every new file once.

A file is identified by its key and size, as in a listing. A file in the tables is not read again. A listing
does not notice a file whose content has changed but not its size. Code that reads the photos skips such a
file, see `toygan.data.photo_index.indexed_photos`. Rows of files that are no longer in the store are removed.
Uploaded files are never changed or deleted.
"""

import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa

from toygan.data.photo_index import READERS
from toygan.data.upload_products import is_products_file
from toygan.errors import AccessRefused, BadInput, StoreUnavailable, ToyganError
from toygan.parallel import in_order
from toygan.picture_files import check_size
from toygan.storage.keys import PHOTOS_PREFIX
from toygan.storage.store import ObjectStore
from toygan.uploads.index import DUPLICATE, FileId, Gone, PhotoTables, change_tables, read_tables
from toygan.uploads.inspection import inspect_photo, parse_photo_key
from toygan.uploads.new_categories import (
    NEW_CATEGORY_PHOTOS,
    UNKNOWN_CATEGORY,
    learnable,
    photos_to_learn_from,
)

log = logging.getLogger(__name__)

QUIET_S = 30.0
PATIENCE_S = 900.0
_FILES_A_COMMIT = 1000  # the number of files in a commit; an interrupted listing loses at most these
_NO_ANSWER_LIMIT = 8  # if the store does not answer for more files, it counts as unavailable


@dataclass(frozen=True, kw_only=True)
class IndexingResult:
    """The photo index after a listing, and how many files the listing found, added or removed."""

    index: pa.Table  # PHOTO_INDEX, as it is now
    listed: int
    added: int
    quarantined: int
    removed: int  # the number of rows removed from the tables, for example of missing or changed files
    unread: int  # the number of files that could not be read; the next listing tries again


class _Inspected(NamedTuple):
    """The result for a file: a row of PHOTO_INDEX, or a reason for the quarantine, or neither if the file
    could not be read or inspected now.
    """

    key: str
    size: int
    row: Mapping[str, Any] | None = None
    reason: str | None = None
    no_answer: bool = False  # whether the store failed in a way that may concern every file


def index_uploads(store: ObjectStore, known_categories: Collection[str] | None = None) -> IndexingResult:
    """Lists the uploads and brings both tables up to date; an unchanged listing writes nothing.

    A link, or a file whose name cannot be a key, goes to the quarantine under a printable name. With
    `known_categories`, a photo of another category goes to the quarantine, too, until the category becomes
    known or has enough photos to be learnt. Of several files with the same content, only the first is
    indexed. If it is removed, another of these files takes its place. A file that cannot be read now, for
    example for its permissions, goes to neither table; the next listing reads it again. Raises TableError for
    a damaged index, and StoreUnavailable if the store does not answer; what was committed before stays.
    """
    found = [
        info
        for info in store.list_all(PHOTOS_PREFIX)
        # Some S3 browsers create objects for folders, whose keys end in a slash.
        if not info.key.endswith("/") and not is_products_file(info.key)
    ]
    listed = {info.key: info.size for info in found}
    unreachable = {info.key: info.problem for info in found if info.problem is not None}
    if known_categories is not None:
        reachable = {key: size for key, size in listed.items() if key not in unreachable}
        more = learnable(photos_to_learn_from(reachable, known_categories))
        known_categories = {*known_categories, *more}
    tables = read_tables(store)
    gone = _outdated(tables, listed, known_categories)
    done = ({*_files(tables.index)} - gone.photos) | ({*_files(tables.quarantine)} - gone.others)
    new = [file for file in listed.items() if file not in done]
    index, added, quarantined, unread = tables.index, 0, 0, 0
    if any(gone):
        index = change_tables(store, gone=gone, photos=(), others=()).index
    for inspected in _inspect_all(store, new, known_categories, unreachable):
        photos = [each.row for each in inspected if each.row is not None]
        others = [_set_aside(each) for each in inspected if each.reason is not None]
        changed = change_tables(store, gone=Gone(), photos=photos, others=others)
        index = changed.index
        added += changed.added
        quarantined += changed.quarantined
        unread += len(inspected) - len(photos) - len(others)
    return IndexingResult(
        index=index,
        listed=len(listed),
        added=added,
        quarantined=quarantined,
        removed=len(gone.photos) + len(gone.others),
        unread=unread,
    )


def index_when_quiet(
    store: ObjectStore,
    known_categories: Collection[str] | None = None,
    *,
    quiet_s: float = QUIET_S,
    patience_s: float = PATIENCE_S,
) -> pa.Table:
    """Waits until nothing has been uploaded for `quiet_s` seconds. Returns the photo index.

    Waits about `patience_s` at most. Lists the uploads at least twice, `quiet_s` apart, and so sees every
    file that was uploaded before the wait ended. Raises the errors of `index_uploads`.
    """
    give_up_at = time.monotonic() + patience_s
    index_uploads(store, known_categories)
    while True:
        time.sleep(quiet_s)
        result = index_uploads(store, known_categories)
        if not (result.added or result.quarantined or result.removed) or time.monotonic() > give_up_at:
            return result.index


def _outdated(
    tables: PhotoTables, listed: Mapping[str, int], known_categories: Collection[str] | None
) -> Gone:
    """Returns files with outdated rows: files that are missing or have changed, and files whose reason for
    the quarantine is no longer true.
    """
    photos = {file for file in _files(tables.index) if listed.get(file[0]) != file[1]}
    kept = tables.index.select(["photo_uri", "bytes", "sha256"]).to_pylist()
    kept = [row for row in kept if (row["photo_uri"], row["bytes"]) not in photos]
    indexed, contents = {row["photo_uri"] for row in kept}, {row["sha256"] for row in kept}

    def holds(row: Mapping[str, Any]) -> bool:
        if listed.get(row["photo_uri"]) != row["bytes"] or row["photo_uri"] in indexed:
            return False
        if row["reason"].startswith(DUPLICATE):
            return row["sha256"] in contents
        if row["reason"].startswith(UNKNOWN_CATEGORY):
            category = parse_photo_key(row["photo_uri"]).category
            return known_categories is not None and category not in known_categories
        return True

    rows = tables.quarantine.to_pylist()
    others = {(row["photo_uri"], row["bytes"]) for row in rows if not holds(row)}
    return Gone(frozenset(photos), frozenset(others))


def _files(table: pa.Table) -> Iterator[FileId]:
    return zip(table["photo_uri"].to_pylist(), table["bytes"].to_pylist(), strict=True)


def _set_aside(inspected: _Inspected) -> dict[str, Any]:
    """Returns the file's row of QUARANTINE."""
    return {
        "photo_uri": inspected.key,
        "sha256": None,
        "bytes": inspected.size,
        "reason": inspected.reason,
        "seen_at": datetime.now(UTC),
    }


def _inspect_all(
    store: ObjectStore,
    files: Sequence[FileId],
    known_categories: Collection[str] | None,
    unreachable: Mapping[str, str],
) -> Iterator[list[_Inspected]]:
    """Inspects the files in order. Yields the results in chunks, one for each commit."""

    def inspect(file: FileId) -> _Inspected:
        if problem := unreachable.get(file[0]):
            return _Inspected(*file, reason=problem)
        return _inspect(store, *file, known_categories)

    unanswered: list[str] = []
    with ThreadPoolExecutor(READERS) as pool:
        inspected = (each for _, each in in_order(pool, inspect, files, ahead=4 * READERS))
        while chunk := list(islice(inspected, _FILES_A_COMMIT)):
            unanswered += [each.key for each in chunk if each.no_answer]
            yield chunk
            if len(unanswered) > _NO_ANSWER_LIMIT:
                raise StoreUnavailable(
                    f"{store.uri}: {len(unanswered)} photos could not be read, the first is {unanswered[0]}"
                )


def _inspect(store: ObjectStore, key: str, size: int, known_categories: Collection[str] | None) -> _Inspected:
    """Reads and inspects one file. Only a defect of its name, size or content is a reason for the quarantine.

    Any other error is logged, and the next listing reads the file again.
    """
    try:
        _check_name(key, known_categories)
        check_size(size)
    except BadInput as error:
        return _Inspected(key, size, reason=str(error))
    try:
        data = store.get(key)
    except Exception as error:
        is_known = isinstance(error, ToyganError)
        log.warning("could not read the upload %s: %s", key, error, exc_info=not is_known)
        return _Inspected(key, size, no_answer=not isinstance(error, AccessRefused))
    try:
        return _Inspected(key, size, row=inspect_photo(key, data))
    except Exception as error:
        if _is_passing(error):
            log.warning("could not inspect the upload %s: %s", key, error)
            return _Inspected(key, size)
        if isinstance(error, BadInput):
            return _Inspected(key, size, reason=str(error))
        log.exception("could not inspect the upload %s", key)
        return _Inspected(key, size, reason=f"could not be decoded ({type(error).__name__}: {error})")


def _check_name(key: str, known_categories: Collection[str] | None) -> None:
    category = parse_photo_key(key).category
    if known_categories is not None and category not in known_categories:
        known = ", ".join(sorted(known_categories))
        raise BadInput(
            f"{UNKNOWN_CATEGORY}{category!r}: a model learns it when there are {NEW_CATEGORY_PHOTOS} "
            f"photos; known are {known}"
        )


def _is_passing(error: Exception) -> bool:
    """Whether the machine failed, for example for lack of memory, so a later try may succeed.

    `decode_photo` turns every error into BadInput, so the cause counts. Pillow's errors about a damaged file
    are OSErrors, too, but without the number of a system error.
    """
    cause = error.__cause__ or error
    is_of_the_system = isinstance(cause, OSError) and cause.errno is not None
    return is_of_the_system or isinstance(cause, MemoryError | ImportError)
