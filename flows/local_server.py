"""A Prefect server of this machine, for those who have set up none."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

from toygan.errors import BadInput, Retryable

HOST = "127.0.0.1"
DEFAULT_PORT = 4200
_START_LIMIT_S = 180.0
# What the user has set stays.
_DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # In memory, as is the default, they would be lost with the server, and the slots that they hold for ever.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}


@contextmanager
def local_server() -> Iterator[str]:
    """Starts `prefect server start` where none answers yet, and ends what it started; yields its API URL.

    The database is the user's, as for every Prefect command: `prefect deployment run ...` finds the same
    deployments. The port is PREFECT_SERVER_API_PORT, else 4200. Raises BadInput when something else listens
    there, and Retryable when the server does not come up.
    """
    port = int(os.environ.get("PREFECT_SERVER_API_PORT", DEFAULT_PORT))
    url = f"http://{HOST}:{port}/api"
    if _is_healthy(url):
        yield url
        return
    if _is_taken(port):
        raise BadInput(
            f"port {port} is in use, and not by a Prefect server; set PREFECT_SERVER_API_PORT to a free one, "
            "or PREFECT_API_URL to your server"
        )
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    server = subprocess.Popen(
        command,
        env={**_DEFAULTS, **os.environ},
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C ends the runs first, which tell the server so
    )
    try:
        _wait_for(url, server)
        yield url
    finally:
        server.terminate()
        server.wait()


def _wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    give_up_at = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < give_up_at and server.poll() is None:
        if _is_healthy(url):
            return
        time.sleep(0.2)
    raise Retryable(f"Prefect's server did not start at {url}; `prefect server start` says why")


def _is_healthy(url: str) -> bool:
    try:
        with urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.read() == b"true")
    except (URLError, OSError):
        return False


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
