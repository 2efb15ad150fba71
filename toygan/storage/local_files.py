"""Writes files so that a power failure never leaves an object without the objects that it references."""

import os
import threading
from pathlib import Path

from toygan.disk import sync_folder

_MOVE_ATTEMPTS = 20  # a concurrent delete may remove the folder between its creation and the move

# whether the system can sync all files with one call; else each file is synced by itself
_SYNCS_ALL = hasattr(os, "sync")
_unsynced = threading.Event()
_sync_lock = threading.Lock()


def write(path: Path, data: bytes, *, durable: bool) -> None:
    """Writes a new file. With `durable`, the file is on the disk when the call returns."""
    with path.open("xb", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        if durable or not _SYNCS_ALL:
            os.fsync(file.fileno())


def move(temporary: Path, target: Path, *, durable: bool) -> None:
    """Moves a file to its place, and makes missing folders above it.

    With `durable`, everything that this process has put earlier is on the disk before the move, and the move
    is on the disk when the call returns.
    """
    for attempt in range(_MOVE_ATTEMPTS):
        try:
            make_folders(target.parent)
            if durable:
                _sync_earlier_puts()
            temporary.replace(target)
            if durable:
                sync_folder(target.parent)
            else:
                _unsynced.set()
            return
        # mkdir raises either of these when a concurrent process makes or removes the folder
        except (FileNotFoundError, FileExistsError):
            if attempt == _MOVE_ATTEMPTS - 1:
                raise


def make_folders(folder: Path) -> None:
    """Makes the folder and those above it."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        _unsynced.set()


def _sync_earlier_puts() -> None:
    """Waits until everything that this process has put, into any folder, is on the disk."""
    with _sync_lock:  # A second caller waits here until the first caller's sync is done.
        if _unsynced.is_set():
            _unsynced.clear()
            if _SYNCS_ALL:
                os.sync()
