"""Files on disks that may be full."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from toygan.errors import BadInput, DiskFull, Retryable

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_ALLOWED: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}
)

# Flags that only some systems have.
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
# child processes do not inherit the descriptor
_HERE_ONLY: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0)
_PLAIN: Final = _NO_LINK | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | _HERE_ONLY


@contextmanager
def disk_errors(place: Path, kept: str) -> Iterator[None]:
    """Turns an OSError at `place` into an error whose message ends with `kept`: what is not lost.

    Raises DiskFull for a full disk, BadInput if the user may not write, and Retryable for any other OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull(f"{place}: the disk is full ({error.strerror}); {kept}") from error
        if error.errno in _NOT_ALLOWED:
            raise BadInput(f"{place} cannot be written ({error.strerror}); give another folder") from error
        raise Retryable(f"{place}: {error}; {kept}") from error


def open_plain(path: Path) -> int:
    """Opens a file for reading in binary mode. Returns the descriptor.

    Where the system supports it, the call refuses a link and does not wait for a pipe's writer. Raises
    OSError.
    """
    return os.open(path, os.O_RDONLY | _PLAIN)


def lock_file(path: Path) -> int:
    """Opens a file that serves as a lock, and makes it if it is missing. Returns the descriptor."""
    return os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK | _HERE_ONLY, 0o666)


def sync_folder(folder: Path) -> None:
    """Waits until changes of a folder's names are on the disk.

    Does nothing where the system cannot do this. Raises OSError.
    """
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot sync folders
            raise
    finally:
        os.close(descriptor)


def replace_file(file: Path, data: bytes) -> None:
    """Writes a file in one step, and waits until it is on the disk. If that fails, the old file stays."""
    unfinished = file.with_name(f"{file.name}.tmp")
    try:
        with unfinished.open("wb") as sink:
            sink.write(data)
            sink.flush()
            os.fsync(sink.fileno())
        unfinished.replace(file)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def check_new_folder(folder: Path) -> None:
    """Raises BadInput unless `new_folder` can make `folder` without the loss of a file."""
    if not folder.name or folder.name == "..":
        raise BadInput(f"{folder} has no name of its own; give a new folder")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} is not empty; give a new folder")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yields an empty temporary folder.

    When the context ends, this folder is renamed to `folder` and replaces a folder of this name as a whole.
    If the context raises, the temporary folder is removed.
    """
    fresh, old = folder.with_name(f"{folder.name}.tmp"), folder.with_name(f"{folder.name}.old")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
