"""A store in a local folder with one file per object."""

import errno
import logging
import os
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from toygan.disk import FULL, lock_file, open_plain
from toygan.errors import (
    AccessRefused,
    BadInput,
    Conflict,
    ObjectNotFound,
    StoreConfigError,
    StoreUnavailable,
    ToyganError,
)
from toygan.locks import PATIENCE_S, wait_for_lock
from toygan.names import printable
from toygan.storage.keys import is_referenced
from toygan.storage.local_files import make_folders, move, write
from toygan.storage.store import (
    TMP_PREFIX,
    ObjectInfo,
    OnRefused,
    check_key,
    content_version,
    is_hidden,
    named_info,
    no_presigned,
)

_log = logging.getLogger(__name__)

_UPLOADS = TMP_PREFIX + ".put/"  # never the folder of a run, because no run id starts with a dot
_LOCK = "lock"  # the lock file's name in _UPLOADS; the other names there are 32 hex digits
_ABANDONED_AFTER_S = 3600.0

# the last two stand for a link and a socket
_NOTHING_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}
_IN_THE_WAY = {errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST, errno.EXDEV}

_LINK = "it is a link, and links inside a store are not followed; put the file itself there"
_READABLE = "make it readable for you"
_WRITABLE = "the folder must be readable and writable for you"


class LocalStore:
    """Files below one root folder, which the first put creates.

    A power failure never leaves an object without the objects that it references. Pictures and plan shards
    are put without a sync. Before any other object is put, the earlier objects of this process are on the
    disk. When the put of such an object returns, the object itself is on the disk, too. So a run waits for
    the disk once per shard, not once per picture. Links inside the root are not followed; the root itself may
    be a link.
    """

    def __init__(self, root: Path, *, lock_patience_s: float = PATIENCE_S) -> None:
        try:
            self._root = Path(os.path.realpath(root.expanduser()))
        except RuntimeError as error:  # ~NAME of an unknown user
            raise StoreConfigError(f"{root}: {error}; give the whole path") from None
        self._lock_patience_s = lock_patience_s
        self._swept = False
        self._sweep_lock = threading.Lock()

    @property
    def uri(self) -> str:
        """The absolute path of the root."""
        return str(self._root)

    def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str = "application/octet-stream",
        cache_control: str | None = None,
    ) -> None:
        """Writes a file under a temporary name, then moves it to its place."""
        with self._named_errors(key):
            target = self._path(key)
            self._sweep_once()
            uploads = self._root / _UPLOADS
            make_folders(uploads)
            temporary = uploads / secrets.token_hex(16)
            durable = not is_referenced(key)
            try:
                write(temporary, data, durable=durable)
                move(temporary, target, durable=durable)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise

    def get(self, key: str) -> bytes:
        """Returns the content of the file; raises ObjectNotFound."""
        with self._named_errors(key, _READABLE):
            try:
                return _read_plain(self._path(key))
            except OSError as error:
                if error.errno in _NOTHING_THERE:
                    raise ObjectNotFound(key) from None
                raise

    def exists(self, key: str) -> bool:
        """Whether a regular file exists at `key`."""
        with self._named_errors(key, _READABLE):
            try:
                return stat.S_ISREG(self._path(key).lstat().st_mode)
            except (FileNotFoundError, NotADirectoryError):
                return False

    def size(self, key: str) -> int:
        """Returns the size of the file in bytes; raises ObjectNotFound."""
        with self._named_errors(key, _READABLE):
            try:
                found = self._path(key).lstat()
            except (FileNotFoundError, NotADirectoryError):
                raise ObjectNotFound(key) from None
            if not stat.S_ISREG(found.st_mode):
                raise ObjectNotFound(key)
            return found.st_size

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yields the files with keys that start with `prefix`, sorted by key. Reads no other folders."""
        for info in self.list_all(prefix):
            if info.problem is None:
                yield info
            else:
                _log.warning("the file %s/%s is not read: %s", self._root, info.key, info.problem)

    def list_all(self, prefix: str = "", *, on_refused: OnRefused | None = None) -> Iterator[ObjectInfo]:
        """Like `list`, and also yields the files and links that no key can reach."""
        folder, slash, _ = prefix.rpartition("/")
        if slash:
            if not _is_key(folder):
                return
            self._refuse_links(self._root / folder)
        yield from self._walk(folder + slash, prefix, on_refused)

    def delete(self, key: str) -> None:
        """Removes the file and the folders that become empty."""
        with self._named_errors(key):
            path = self._path(key)
            try:
                if stat.S_ISDIR(path.lstat().st_mode):
                    return
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
            for parent in path.parents:
                if parent == self._root:
                    break
                try:
                    parent.rmdir()
                except OSError:  # the folder is not empty, or is gone
                    break

    def get_versioned(self, key: str) -> tuple[bytes, str]:
        """Returns the content and its digest.

        The digest is the version, because times and inodes can repeat.
        """
        data = self.get(key)
        return data, content_version(data)

    def put_if(
        self, key: str, data: bytes, version: str | None, *, content_type: str = "application/octet-stream"
    ) -> str:
        """Holds the lock of the store, and puts if the file has not changed; else raises Conflict."""
        check_key(key)
        with self._named_errors(key), self._locked():
            try:
                found = self.get_versioned(key)[1]
            except ObjectNotFound:
                found = None
            if found != version:
                raise Conflict(key)
            self.put(key, data, content_type=content_type)
        return content_version(data)

    def presigned(self, key: str, expires_s: int) -> str:
        """Always raises StoreConfigError."""
        raise no_presigned(self.uri)

    @property
    def has_conditional_writes(self) -> bool:
        """Whether the file system supports locks."""
        with self._named_errors(""), self._locked() as is_locked:
            return is_locked

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """Waits for the lock of the store. Yields False if the file system has no locks.

        If the process that holds the lock ends, the lock is released. Raises StoreUnavailable if the holder
        of the lock makes no progress.
        """
        uploads = self._root / _UPLOADS
        make_folders(uploads)
        descriptor = lock_file(uploads / _LOCK)
        try:
            is_locked = True
            try:
                lock = f"the lock of the store {uploads / _LOCK}"
                wait_for_lock(descriptor, lock, patience_s=self._lock_patience_s)
            except TimeoutError as error:
                raise StoreUnavailable(str(error)) from None
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                is_locked = False
            yield is_locked
        finally:
            os.close(descriptor)

    def _path(self, key: str) -> Path:
        """Returns the path of the object. Refuses links that lead out of the object's place."""
        check_key(key)
        if key.startswith(_UPLOADS):
            raise BadInput(f"keys under {_UPLOADS} are the store's own")
        path = self._root / key
        self._refuse_links(path.parent)
        return path

    def _refuse_links(self, folder: Path) -> None:
        real = os.path.realpath(folder)
        if real != str(folder):
            raise AccessRefused(f"{folder}: links inside a store are not followed; this one leads to {real}")

    def _walk(self, folder: str, prefix: str, on_refused: OnRefused | None) -> Iterator[ObjectInfo]:
        """Yields the files below `folder` (empty or ending with `/`), in the order of their keys."""
        with self._named_errors(folder, _READABLE):
            try:
                with os.scandir(self._root / folder) as found:
                    entries = [(_listing_name(entry), entry) for entry in found]
            except (FileNotFoundError, NotADirectoryError):
                return
        for name, entry in sorted(entries, key=lambda pair: pair[0]):
            key = folder + name
            if not (key.startswith(prefix) or prefix.startswith(key)) or is_hidden(key, prefix):
                continue
            if key == _UPLOADS:
                continue
            if name.endswith("/"):
                try:
                    yield from self._walk(key, prefix, on_refused)
                except AccessRefused as error:
                    if on_refused is None:
                        raise
                    on_refused(key, error)
            elif entry.is_symlink() and key.startswith(prefix):
                yield ObjectInfo(printable(key), 0, _LINK)
            elif entry.is_file(follow_symlinks=False) and key.startswith(prefix):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    yield named_info(key, self._size_of(entry, key))

    def _size_of(self, entry: os.DirEntry[str], key: str) -> int:
        try:
            return entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _translated(error, self._root, key, _READABLE) from error

    def _sweep_once(self) -> None:
        """Removes the files that killed processes left in the folder _UPLOADS. Later calls do nothing."""
        with self._sweep_lock:
            if self._swept:
                return
            self._swept = True
        limit = time.time() - _ABANDONED_AFTER_S
        with suppress(FileNotFoundError), os.scandir(self._root / _UPLOADS) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.name != _LOCK and entry.stat(follow_symlinks=False).st_mtime < limit:
                        Path(entry.path).unlink()

    @contextmanager
    def _named_errors(self, key: str, remedy: str = _WRITABLE) -> Iterator[None]:
        try:
            yield
        except ToyganError:
            raise
        except OSError as error:
            raise _translated(error, self._root, key, remedy) from error


def _read_plain(path: Path) -> bytes:
    """Returns the content of a regular file; refuses links, folders and devices."""
    descriptor = open_plain(path)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a plain file", path)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def _listing_name(entry: os.DirEntry[str]) -> str:
    """Returns the name of an entry, with a slash at the end for a folder: so names sort as keys do."""
    return entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name


def _is_key(name: str) -> bool:
    try:
        check_key(name)
    except BadInput:
        return False
    return True


def _translated(error: OSError, root: Path, key: str, remedy: str) -> ToyganError:
    """Returns toygan's error for an OSError. `remedy` says what helps against missing permissions."""
    where = f"{root} ({printable(key)})" if key else str(root)
    if error.errno in FULL:
        return StoreUnavailable(
            f"{where}: the disk is full ({error.strerror}); free some space and run again"
        )
    if error.errno in _NOT_ALLOWED:
        return AccessRefused(f"{where}: {error.strerror}; {remedy}")
    if error.errno in _IN_THE_WAY:
        return StoreConfigError(f"{where}: something else is in the object's place ({error.strerror})")
    return StoreUnavailable(f"{where}: {error}")
