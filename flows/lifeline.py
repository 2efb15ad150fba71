"""Makes processes end with the process that started them, even if that process is killed.

A process that is killed by SIGKILL cannot end its children. On Linux the kernel ends them; elsewhere this
module has no effect. `python -m flows.lifeline PARENT COMMAND...` executes the command as a child of the
process PARENT.
"""

import ctypes
import os
import signal
import sys

# The service sets this variable to its process id, for the runs that it starts.
SERVICE_PID = "TOYGAN_SERVICE_PID"
_PR_SET_PDEATHSIG = 1


def end_with(parent: int, number: signal.Signals) -> None:
    """Makes the kernel send this process the signal `number` when its parent process ends. If the parent has
    ended already, sends the signal at once.

    The setting stays in force after exec. Source: prctl(2), PR_SET_PDEATHSIG.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(number)) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")
    if os.getppid() != parent:  # the parent has ended before the call
        os.kill(os.getpid(), number)


def end_with_the_service() -> None:
    """Makes a flow run end with the service that started it; the next service resumes the run.

    The run ends by SIGKILL, which is safe at any moment. Otherwise the run would fail because nobody reads
    its output, and a failed run is not resumed.
    """
    if parent := os.environ.get(SERVICE_PID):
        end_with(int(parent), signal.SIGKILL)


def as_child(command: list[str]) -> list[str]:
    """Returns a command line that runs `command` as a child. If this process ends, the child gets SIGTERM."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-m", "flows.lifeline", str(os.getpid()), *command]


if __name__ == "__main__":
    end_with(int(sys.argv[1]), signal.SIGTERM)
    os.execvp(sys.argv[2], sys.argv[2:])
