"""Waiting for a lock of flock(2), which says so and does not wait for ever."""

import errno
import fcntl
import logging
import os
import time
from pathlib import Path

PATIENCE_S = 25.0
SILENT_S = 3.0
_LONGEST_PAUSE_S = 0.05

_log = logging.getLogger(__name__)


def wait_for_lock(descriptor: int, kind: int, name: str, *, patience_s: float = PATIENCE_S) -> None:
    """Take the lock of an open file or folder, `kind` LOCK_SH or LOCK_EX.

    After SILENT_S the log says who holds the lock that messages call `name`. Raises TimeoutError when nobody
    else has taken the lock for `patience_s`, and OSError as flock does. Who takes it marks the file, so that
    a busy lock, which goes from hand to hand, is waited for as long as it takes.
    """
    began = last_change = time.monotonic()
    mark, pause, has_told = _mark(descriptor), 0.001, False
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
        else:
            _leave_mark(descriptor)
            return
        now = time.monotonic()
        if (found := _mark(descriptor)) != mark:
            mark, last_change = found, now
        if now - last_change > patience_s:
            raise TimeoutError(
                f"{name} is held by {_holder(descriptor)}, which has not moved for {patience_s:.0f} s; end "
                "or resume it and run again"
            )
        if now - began > SILENT_S and not has_told:
            has_told = True
            _log.warning(
                "waiting for %s, which %s holds; giving up after %.0f s without a change",
                *(name, _holder(descriptor), patience_s),
            )
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _mark(descriptor: int) -> int:
    return os.fstat(descriptor).st_mtime_ns


def _leave_mark(descriptor: int) -> None:
    try:
        os.utime(descriptor)
    except OSError:  # it is another user's: then a wait is at most as long as without marks
        return


def _holder(descriptor: int) -> str:
    """Who holds the lock, so far as the system says."""
    found = os.fstat(descriptor)
    file = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        # 1: FLOCK ADVISORY WRITE 4242 08:01:131099 0 EOF
        fields = line.split()
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == file and fields[4] != "0":
            return f"the process {fields[4]}"
    return "another process"
