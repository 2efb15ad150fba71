"""Keeps embeddings of texts on disk, so that no text is embedded twice.

The cache is one SQLite file. It is open only while it is read or written. So threads and processes may share
the cache, even across a fork. The cache only saves time, so a failure of the cache is never an error.
"""

import contextlib
import logging
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from toygan.disk import lock_file
from toygan.locks import wait_for_lock

WAIT_S: Final = 30.0  # the longest wait, in seconds, for other processes that write
# the largest number of keys in one query; every SQLite allows 999 or more
AT_ONCE: Final = 500

# SQLITE_ERROR is included: the queries are valid, so it means that the file has other tables or columns.
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS embeddings (
        key BLOB PRIMARY KEY, embedding BLOB NOT NULL, crc32 INTEGER NOT NULL
    )
"""

log = logging.getLogger(__name__)
Embedding = NDArray[np.float32]
Answer = TypeVar("Answer")


def default_folder() -> Path | None:
    """Returns `toygan/texts` below the user's cache folder (XDG specification).

    Returns None if the user has no home folder.
    """
    stated = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if stated.is_absolute():
        return stated / "toygan" / "texts"
    try:
        return Path.home() / ".cache" / "toygan" / "texts"
    except RuntimeError:
        return None


class TextCache:
    """Stores embeddings (size,) float32 by key in the file `path`. A missing file is created.

    A damaged file is renamed to `<path>.damaged`, and a new file takes its place. If the file cannot be used
    at all, or if `path` is None, the cache is empty and stays empty. Each failure is logged once.
    """

    def __init__(self, path: Path | None, *, size: int) -> None:
        self._path = path
        self._bytes = np.dtype(np.float32).itemsize * size

    def read(self, keys: Sequence[bytes]) -> dict[bytes, Embedding]:
        """Returns the embeddings of the keys that are in the cache."""
        return self._ask(lambda connection: self._select(connection, keys)) or {}

    def write(self, embeddings: Mapping[bytes, Embedding]) -> None:
        """Adds embeddings. A key that is already in the cache keeps its embedding."""
        rows = []
        for key, embedding in embeddings.items():
            data = embedding.tobytes()
            rows.append((key, data, zlib.crc32(data)))
        add = "INSERT OR IGNORE INTO embeddings VALUES (?, ?, ?)"
        self._ask(lambda connection: connection.executemany(add, rows))

    def _select(self, connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, Embedding]:
        found = {}
        for first in range(0, len(keys), AT_ONCE):
            some = keys[first : first + AT_ONCE]
            marks = ", ".join("?" * len(some))
            question = f"SELECT key, embedding, crc32 FROM embeddings WHERE key IN ({marks})"
            for key, data, crc32 in connection.execute(question, some):
                if len(data) != self._bytes or zlib.crc32(data) != crc32:
                    raise _DamagedRow("the row of an embedding is damaged")
                found[key] = np.frombuffer(data, dtype=np.float32)
        return found

    def _ask(self, question: Callable[[sqlite3.Connection], Answer]) -> Answer | None:
        """Runs the query. Returns None if there is no cache, or if the cache cannot be used."""
        for last in (False, True):
            if (path := self._path) is None:
                return None
            asked_file = _file_number(path)
            try:
                return _answer(path, question)
            except (sqlite3.DatabaseError, OSError) as error:
                if last or not _is_damage(error) or not _set_aside(path, asked_file, error):
                    self._give_up(path, error)
        return None

    def _give_up(self, path: Path, error: Exception) -> None:
        log.warning("the text cache %s cannot be used (%s); texts are embedded without a cache", path, error)
        self._path = None


class _DamagedRow(sqlite3.DatabaseError):
    """A damaged row that SQLite does not detect."""


def _answer(path: Path, question: Callable[[sqlite3.Connection], Answer]) -> Answer:
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        _locked(path, shared=True),
        contextlib.closing(sqlite3.connect(path, timeout=WAIT_S)) as connection,
        connection,
    ):
        connection.execute(_TABLE)
        return question(connection)


def _is_damage(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary error code, without the extended part
    return isinstance(error, _DamagedRow) or code in _DAMAGED


def _file_number(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _set_aside(path: Path, asked_file: int | None, error: Exception) -> bool:
    """Renames the damaged file, unless another process has already replaced it.

    Returns False if the file cannot be renamed.
    """
    aside = path.with_name(f"{path.name}.damaged")
    try:
        with _locked(path, shared=False):
            if _file_number(path) != asked_file:
                return True
            # SQLite would replay this file's leftover journal into the new file.
            path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
            path.replace(aside)
    except OSError:
        return False
    log.warning("the text cache %s is damaged (%s); it is set aside as %s and made again", path, error, aside)
    return True


@contextlib.contextmanager
def _locked(path: Path, *, shared: bool) -> Iterator[None]:
    """Holds the lock of the cache, which is a file beside it.

    Without the lock a process could rename the file while another has it open, and then SQLite fails.
    """
    opened = lock_file(path.with_name(f"{path.name}.lock"))
    try:
        wait_for_lock(opened, f"the text cache {path}", shared=shared)
        yield
    finally:
        os.close(opened)
