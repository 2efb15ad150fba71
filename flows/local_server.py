"""Starts local Prefect servers if none is configured; they end with the process that started them."""

import atexit
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from urllib.error import URLError
from urllib.request import urlopen

from flows.lifeline import as_child
from flows.reach import check_home
from flows.server_failures import why_it_ended
from toygan.errors import BadInput, Retryable

HOST = "127.0.0.1"
DEFAULT_PORT = 4200
_START_LIMIT_S = 600.0  # long enough for a busy machine; a server that cannot start ends much earlier
_STOP_LIMIT_S = 10.0
_LINES_KEPT = 200
_STILL_THERE_AFTER_S = 1.0  # longer than a server still listens after its service has ended
_DAY_S = 24 * 60 * 60
# Prefect keeps five of these events for each run, for seven days by default. The runs of `watch-photos` would
# fill a disk.
_SHORT_LIVED = (
    "Scheduled",
    "Pending",
    "Submitting",
    "Running",
    "Completed",
    "Cancelled",
    "Late",
    "heartbeat",
)
# These are the defaults for servers that toygan starts. The user's own values take precedence.
SERVER_DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Prefect's default keeps leases in memory. When the server ends, such leases are lost, and their slots
    # are never released.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_EVENT_RETENTION_OVERRIDES": "{"
    + ", ".join(f'"prefect.flow-run.{name}": {_DAY_S}' for name in _SHORT_LIVED)
    + "}",
}
_TEMPORARY = {
    "PREFECT_UI_ENABLED": "0",
    # A lasting server on the same database registers Prefect's blocks. A temporary one would lose a second.
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
}


@contextmanager
def local_server() -> Iterator[str]:
    """Runs `prefect server start` unless a server answers. Yields the API URL. Ends a server that it started.

    The server uses the user's database, as every Prefect command does. So `prefect deployment run ...` finds
    the same deployments. The port is PREFECT_SERVER_API_PORT, else 4200. Raises BadInput if another program
    listens there or the database cannot be used, Retryable if the server does not start.
    """
    port = _port_of_the_settings()
    url = f"http://{HOST}:{port}/api"
    if _is_healthy(url):
        # A server that answers now may end in a moment, because its service was killed.
        time.sleep(_STILL_THERE_AFTER_S)
        if _is_healthy(url):
            yield url
            return
    if _is_taken(port):
        raise BadInput(
            f"port {port} is in use, and not by a Prefect server; set PREFECT_SERVER_API_PORT to a free "
            "port, or PREFECT_API_URL to your server"
        )
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    with _running(command, SERVER_DEFAULTS) as server:
        server.wait_until_healthy(url)
        server.passes_on = True
        yield url


@cache
def temporary_server() -> str:
    """Starts a server only for this process, on a free port and without pages, and makes Prefect use it.

    The server ends with the process, after Prefect's own exit handlers. Raises what local_server raises.
    """
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind((HOST, 0))
        listener.listen(128)
        port, number = listener.getsockname()[1], listener.fileno()
        command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
        command += ["--log-level", "error", "--lifespan", "on"]
        inherits: int | None = number
        if sys.platform == "win32":  # on Windows a process cannot inherit a socket by its number
            listener.close()
            command += ["--host", HOST, "--port", str(port)]
            inherits = None
        else:
            command += ["--fd", str(number)]
        server = stack.enter_context(_running(command, SERVER_DEFAULTS, _TEMPORARY, inherits=inherits))
        atexit.register(stack.pop_all().close)
    # This process has closed its copy of the listener. Otherwise requests to an ended server would wait in
    # its queue.
    url = f"http://{HOST}:{port}/api"
    server.wait_until_healthy(url)
    from prefect.context import refresh_global_settings_context

    os.environ["PREFECT_API_URL"] = url
    refresh_global_settings_context()
    return url


@dataclass
class _Server:
    process: "subprocess.Popen[str]"
    passes_on: bool = False  # true: the server's output is forwarded to stderr
    lines: "deque[str]" = field(default_factory=lambda: deque(maxlen=_LINES_KEPT))

    def read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if self.passes_on:
                sys.stderr.write(line)

    def wait_until_healthy(self, url: str) -> None:
        give_up_at = time.monotonic() + _START_LIMIT_S
        while time.monotonic() < give_up_at:
            if self.process.poll() is not None:
                raise why_it_ended(self.process.returncode, self.lines)
            if _is_healthy(url):
                return
            time.sleep(0.2)
        raise Retryable(f"Prefect's server did not start at {url}; `prefect server start` says why")


@contextmanager
def _running(
    command: list[str],
    defaults: Mapping[str, str],
    fixed: Mapping[str, str] | None = None,
    *,
    inherits: int | None = None,
) -> Iterator[_Server]:
    check_home()
    process = subprocess.Popen(
        as_child(command),
        env={**defaults, **os.environ, **(fixed or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        pass_fds=() if inherits is None else (inherits,),
        # Ctrl-C must not reach the server, because the runs must end first and report to it
        start_new_session=True,
    )
    server = _Server(process)
    reader = threading.Thread(target=server.read, daemon=True)
    reader.start()
    try:
        yield server
    finally:
        process.terminate()
        try:
            process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port_of_the_settings() -> int:
    given = os.environ.get("PREFECT_SERVER_API_PORT", str(DEFAULT_PORT))
    if not given.isdecimal() or not 0 < int(given) < 2**16:
        raise BadInput(f"PREFECT_SERVER_API_PORT is {given!r}; it must be a number from 1 to 65535")
    return int(given)


def _is_healthy(url: str) -> bool:
    try:
        with urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.read() == b"true")
    except (URLError, OSError):
        return False


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
