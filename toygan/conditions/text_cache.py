"""Embeddings of texts on disk, so that a text met before costs no network.

One SQLite file, open only as long as it is read or written: threads and processes may share it, also across a
fork. Nothing depends on the cache but time, so no failure of it is an error.
"""

import contextlib
import fcntl
import logging
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from toygan.locks import wait_for_lock

WAIT_S: Final = 30.0  # for other processes to finish writing
AT_ONCE: Final = 500  # keys in one question; SQLite takes at least 999

# SQLITE_ERROR among them: here it means a file with other tables or columns.
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
    """`toygan/texts` below the user's cache folder, as the XDG specification has it; None without a home."""
    stated = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if stated.is_absolute():
        return stated / "toygan" / "texts"
    try:
        return Path.home() / ".cache" / "toygan" / "texts"
    except RuntimeError:
        return None


class TextCache:
    """Embeddings (size,) float32 by key, in the file `path`, which is made where it is missing.

    A damaged file is set aside as `<path>.damaged` and made anew. Where the file cannot be used at all, or
    `path` is None, the cache is empty and stays so. Each is logged, once.
    """

    def __init__(self, path: Path | None, *, size: int) -> None:
        self._path = path
        self._bytes = np.dtype(np.float32).itemsize * size

    def read(self, keys: Sequence[bytes]) -> dict[bytes, Embedding]:
        """Those of the embeddings that are known."""
        return self._ask(lambda connection: self._select(connection, keys)) or {}

    def write(self, embeddings: Mapping[bytes, Embedding]) -> None:
        """Keep embeddings; what is known already stays."""
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
        """None where there is no cache."""
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
        log.warning("%s cannot be used (%s); texts are embedded without a cache", path, error)
        self._path = None


class _DamagedRow(sqlite3.DatabaseError):
    """A row that SQLite takes for good."""


def _answer(path: Path, question: Callable[[sqlite3.Connection], Answer]) -> Answer:
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        _locked(path.parent, fcntl.LOCK_SH),
        contextlib.closing(sqlite3.connect(path, timeout=WAIT_S)) as connection,
        connection,
    ):
        connection.execute(_TABLE)
        return question(connection)


def _is_damage(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what extends it
    return isinstance(error, _DamagedRow) or code in _DAMAGED


def _file_number(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _set_aside(path: Path, asked_file: int | None, error: Exception) -> bool:
    """Whether the damaged file is out of the way: by this process, or by another that has made a new one."""
    aside = path.with_name(f"{path.name}.damaged")
    try:
        with _locked(path.parent, fcntl.LOCK_EX):
            if _file_number(path) != asked_file:
                return True
            # SQLite would replay what is left for this file into the new one.
            path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
            path.replace(aside)
    except OSError:
        return False
    log.warning("the text cache %s is damaged (%s); it is set aside as %s and made anew", path, error, aside)
    return True


@contextlib.contextmanager
def _locked(folder: Path, kind: int) -> Iterator[None]:
    """Hold a lock of flock(2) on the folder: SQLite fails where a file is moved away while it is open."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        wait_for_lock(opened, kind, f"the text cache in {folder}")
        yield
    finally:
        os.close(opened)
