"""Takes the lock of an open file, logs a long wait, and gives up after a time limit. The locks are those of
flock(2).

On Windows they are those of its C library, which has no shared locks.
"""

import errno
import logging
import os
import sys
import time
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, *, shared: bool) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int, *, shared: bool) -> None:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


PATIENCE_S = 25.0
SILENT_S = 3.0
_LONGEST_PAUSE_S = 0.05

_log = logging.getLogger(__name__)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Takes the lock of an open file. Returns False if another process has the lock.

    Closing the file releases the lock. Raises OSError as flock does, for example if the file system has no
    locks.
    """
    try:
        _lock(descriptor, shared=shared)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return False
    return True


def wait_for_lock(
    descriptor: int, name: str, *, shared: bool = False, patience_s: float = PATIENCE_S
) -> None:
    """Takes the lock of an open file.

    After SILENT_S the log says which process holds the lock. Messages call the lock `name`. Each process that
    takes the lock changes a mark in the file. Raises TimeoutError if the mark does not change for
    `patience_s` seconds. So there is no limit for a busy lock that passes from process to process. Raises
    OSError as `try_lock` does.
    """
    began = last_change = time.monotonic()
    mark, pause, has_logged = _mark(descriptor), 0.001, False
    while True:
        if try_lock(descriptor, shared=shared):
            _leave_mark(descriptor)
            return
        now = time.monotonic()
        if (found := _mark(descriptor)) != mark:
            mark, last_change = found, now
        if now - last_change > patience_s:
            raise TimeoutError(
                f"{name} is held by {_holder(descriptor)}, which made no progress for {patience_s:.0f} s; "
                "end or resume that process and run again"
            )
        if now - began > SILENT_S and not has_logged:
            has_logged = True
            _log.warning(
                "waiting for %s, which %s holds; giving up after %.0f s without a change",
                *(name, _holder(descriptor), patience_s),
            )
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _mark(descriptor: int) -> int:
    return os.fstat(descriptor).st_mtime_ns


def _leave_mark(descriptor: int) -> None:
    if os.utime not in os.supports_fd:
        return
    try:
        os.utime(descriptor)
    # The file belongs to another user. Without the mark, other processes may give up too early.
    except OSError:
        return


def _holder(descriptor: int) -> str:
    """Returns a text that says which process holds the lock, if the system tells it."""
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return "another process"
    found = os.fstat(descriptor)
    file = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    for line in lines:
        # 1: FLOCK ADVISORY WRITE 4242 08:01:131099 0 EOF
        fields = line.split()
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == file and fields[4] != "0":
            return f"the process {fields[4]}"
    return "another process"
