"""The files that the rows of a catalog name: sketches, layouts and snapshots.

If there is no file of the given name, one is taken whose name is the same in another form of Unicode (NFC or
NFD), because macOS may write other forms than tables.
"""

import hashlib
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from toygan.disk import open_plain
from toygan.errors import AccessRefused, BadInput, ObjectNotFound, StoreConfigError
from toygan.names import spellings
from toygan.storage.store import ObjectStore

MAX_CONDITION_BYTES = 50_000_000  # a PNG of 64 megapixels is smaller


class ConditionFileError(Exception):
    """A condition file cannot be used. The message is the reason for which its row is set aside."""


class LocalFiles:
    """The condition files below a folder. Refuses links and names that lead out of the folder.

    Both methods raise ConditionFileError for a file that is refused, unavailable or larger than
    MAX_CONDITION_BYTES.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sha256(self, name: str) -> str:
        """Returns the lower-case hex sha256 of the file `name`."""
        with self._opened(name) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def read(self, name: str) -> bytes:
        """Returns the content of the file `name`."""
        with self._opened(name) as file:
            data = file.read(MAX_CONDITION_BYTES + 1)
            # checked again, because the file may have grown since its size was read
            _check_size(name, len(data))
            return data

    @contextmanager
    def _opened(self, name: str) -> Iterator[BufferedReader]:
        try:
            # Opening a pipe would block. A link that has appeared in the meantime could lead anywhere.
            descriptor = open_plain(self._path_of(name))
            with os.fdopen(descriptor, "rb") as file:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode):
                    raise ConditionFileError(f"condition_file_unreadable: {name}")
                _check_size(name, found.st_size)
                yield file
        except FileNotFoundError:
            raise ConditionFileError(f"condition_file_not_found: {name}") from None
        except (OSError, ValueError):  # ValueError: the name is invalid for a file
            raise ConditionFileError(f"condition_file_unreadable: {name}") from None

    def _path_of(self, name: str) -> Path:
        root = os.path.realpath(self._folder)
        paths = [os.path.realpath(self._folder / each) for each in spellings(name)]
        path = next(filter(os.path.lexists, paths), paths[0])
        if os.path.commonpath([root, path]) != root:
            raise ConditionFileError(f"leaves_folder: {name}")
        return Path(path)


class StoredFiles:
    """The condition files beside a catalog that is an object of a store.

    Both methods raise ConditionFileError as those of LocalFiles do, and StoreConfigError if no file of the
    store can be read.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def sha256(self, name: str) -> str:
        """Returns the lower-case hex sha256 of the file `name`."""
        return hashlib.sha256(self.read(name)).hexdigest()

    def read(self, name: str) -> bytes:
        """Returns the content of the file `name`."""
        try:
            key, size = self._found(name)
            _check_size(name, size)
            return self._store.get(key)
        except ObjectNotFound:
            raise ConditionFileError(f"condition_file_not_found: {name}") from None
        except BadInput as error:  # the file is refused, or its name is not a valid key
            if isinstance(error, StoreConfigError) and not isinstance(error, AccessRefused):
                raise  # no file of this store can be read
            raise ConditionFileError(f"condition_file_unreadable: {name}") from None

    def _found(self, name: str) -> tuple[str, int]:
        *others, last = map(posixpath.normpath, spellings(name))
        for key in others:
            with suppress(ObjectNotFound):
                return key, self._store.size(key)
        return last, self._store.size(last)


def _check_size(name: str, size: int) -> None:
    if size > MAX_CONDITION_BYTES:
        raise ConditionFileError(f"condition_file_too_large: {name}")
