"""Processes that end with the one that started them, however that one ended.

A process that is killed by SIGKILL cannot end what it started. On Linux the kernel does it; elsewhere
nothing here has an effect. `python -m flows.lifeline PARENT COMMAND...` becomes the command, as a child of
the process PARENT.
"""

import ctypes
import os
import signal
import sys

# Set by the service for the runs that it starts: its process id.
SERVICE_PID = "TOYGAN_SERVICE_PID"
_PR_SET_PDEATHSIG = 1


def end_with(parent: int, number: signal.Signals) -> None:
    """Lets the kernel send this process a signal when its parent, the process `parent`, ends, or has ended.

    A program that this process becomes by exec keeps the setting. Source: prctl(2), PR_SET_PDEATHSIG.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(number)) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")
    if os.getppid() != parent:  # it ended before the call
        os.kill(os.getpid(), number)


def end_with_the_service() -> None:
    """Lets a flow run that the service started end with it; the service takes the run up again later.

    By SIGKILL, which is safe at any moment of a run. A run whose output nobody reads any more would fail
    instead, and a failed run is not taken up.
    """
    if parent := os.environ.get(SERVICE_PID):
        end_with(int(parent), signal.SIGKILL)


def as_child(command: list[str]) -> list[str]:
    """The command line that runs `command` as a child that ends with this process, by SIGTERM."""
    return [sys.executable, "-m", "flows.lifeline", str(os.getpid()), *command]


if __name__ == "__main__":
    end_with(int(sys.argv[1]), signal.SIGTERM)
    os.execvp(sys.argv[2], sys.argv[2:])
