"""Real servers for the tests: S3, Prefect, PostgreSQL."""

import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

_ACCESS_KEY = "toygan-access"
SECRET_KEY = "planted-secret-key-77f0"  # looked for by tests/flows/test_secrets.py
_START_LIMIT_S = 120.0
REPOSITORY = Path(__file__).parent.parent
_PREFECT_START_LIMIT_S = 180.0
_PREFECT_ANSWER_LIMIT_S = 360.0


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """A running server; `port` is on the loopback interface."""

    port: int

    @property
    def endpoint(self) -> str:
        """What AWS_ENDPOINT_URL has to say."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """The variables with which the usual AWS chain finds this server, and nothing of the user's own."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": _ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def make_bucket(self, name: str) -> None:
        """Make an empty bucket."""
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=_ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )
        client.create_bucket(Bucket=name)


@contextmanager
def rclone_server(folder: Path, *, port: int = 0) -> Iterator[S3Server]:
    """`rclone serve s3` as a process of its own, with `folder` behind it; port 0 takes any free one."""
    rclone = Path(sysconfig.get_path("scripts")) / "rclone"
    command = [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}"]
    command += ["--auth-key", f"{_ACCESS_KEY},{SECRET_KEY}", "--config", "/dev/null", folder]
    log = folder.parent / f"{folder.name}.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink)
    try:
        yield S3Server(port=_port_in(log, process))
    finally:
        process.terminate()
        process.wait()


def _port_in(log: Path, process: subprocess.Popen[bytes]) -> int:
    """The port that rclone writes to its log once it listens."""
    pause = threading.Event()
    for _ in range(int(_START_LIMIT_S / 0.05)):
        found = re.search(r"Starting s3 server on \[http://127\.0\.0\.1:(\d+)/\]", log.read_text())
        if found:
            return int(found[1])
        if process.poll() is not None:
            break
        pause.wait(0.05)
    raise RuntimeError(f"rclone did not start: {log.read_text()}")


@contextmanager
def moto_server() -> Iterator[S3Server]:
    """Moto's server in a thread.

    Between its look at the object in the place and its write moto lets other requests in, which S3 does not:
    so it gets one upload at a time.
    """
    moto = DomainDispatcherApplication(create_backend_app)
    one_at_a_time = threading.Lock()

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        with one_at_a_time if environ["REQUEST_METHOD"] == "PUT" else nullcontext():
            return moto(environ, start_response)

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield S3Server(port=server.port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fresh_bucket(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a bucket, let the environment lead to its server and return its URI."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    bucket = f"toygan-{secrets.token_hex(6)}"
    server.make_bucket(bucket)
    return f"s3://{bucket}"


@contextmanager
def prefect_server(home: Path, **settings: str) -> Iterator[dict[str, str]]:
    """`prefect server start` as a process on a free loopback port; yields the environment that leads to it.

    The database is SQLite in `home`, unless the `settings`, environment variables, name another.
    """
    port = free_port()
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PYTHONPATH": str(REPOSITORY),
        **settings,
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--no-ui"]
    log = home / "server.log"
    with log.open("wb") as sink:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], env=environment, stdout=sink, stderr=sink
        )
    try:
        url = f"http://127.0.0.1:{port}/api"
        _wait_for_prefect(url, server, log)
        yield {**environment, "PREFECT_API_URL": url}
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    """A port of the loopback interface that nobody listens on, another one at each call.

    The system does not give it to a client or a server that asks for any port, so it stays free until it is
    used. Nor do the workers of Ray take it.
    """
    while True:
        port = random.SystemRandom().choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _taken:
            _taken.add(port)
            return port


# Below those that Linux gives to clients, from 32768 on, and above those of Ray's workers, up to 19999.
_PORTS = range(20_000, 32_000)
_taken: set[int] = set()


def _wait_for_prefect(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    limit_s = time.monotonic() + _PREFECT_START_LIMIT_S
    while time.monotonic() < limit_s and server.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=30).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise RuntimeError(f"the Prefect server did not start:\n{log.read_text()[-2000:]}")


def ask_prefect(url: str, method: str, path: str, content: object = None) -> Any:
    """One request to the API at `url`, as Prefect's clients make it: again, where the server was too busy.

    A question that changes nothing is also asked again when no answer came in time.
    Raises httpx.HTTPStatusError for an answer that is an error.
    """
    harmless = method == "GET" or path.endswith("/filter")
    limit_s = time.monotonic() + _PREFECT_ANSWER_LIMIT_S
    while True:
        try:
            timeout_s = 60 if harmless else _PREFECT_ANSWER_LIMIT_S
            answer = httpx.request(method, f"{url}{path}", json=content, timeout=timeout_s)
        except httpx.TimeoutException:
            if harmless and time.monotonic() < limit_s:
                continue
            raise
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > limit_s:
            break
        time.sleep(0.5)
    answer.raise_for_status()
    return answer.json() if answer.content else None


@contextmanager
def postgresql_server(folder: Path) -> Iterator[str]:
    """PostgreSQL with an empty database on a free loopback port; yields its URI for SQLAlchemy.

    Its programs are Debian's package `postgresql`. They refuse to run as root: then they run as the user
    `postgres`, whom the package has made. Skips the test where they are missing, and fails it in CI.
    """
    programs = _postgresql_programs()
    if programs is None:
        message = "PostgreSQL is not installed (Debian: apt-get install postgresql)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    user = _POSTGRES_USER if os.geteuid() == 0 else None
    # Short, for the name of the socket, and outside of pytest's folders, which are root's alone.
    with tempfile.TemporaryDirectory(prefix="toygan-pg-") as place:
        if user is not None:
            shutil.chown(place, user)
        port, data = free_port(), f"{place}/data"
        subprocess.run(
            [programs / "initdb", "--auth", "trust", "--username", "toygan", "--no-sync", data],
            user=user,
            check=True,
            capture_output=True,
            cwd=place,
        )
        command = [programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", place]
        log = folder / "postgresql.log"
        with log.open("wb") as sink:
            server = subprocess.Popen(
                [*command, "-c", "fsync=off"], user=user, stdout=sink, stderr=sink, cwd=place
            )
        try:
            _wait_for_postgresql(programs, port, server, log)
            yield f"postgresql+asyncpg://toygan@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # ends the sessions of its clients, too
            server.wait()


_POSTGRES_USER = "postgres"


def _postgresql_programs() -> Path | None:
    """The folder of the newest version; Debian does not put it on the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("postgres")
    if found or on_path is None:
        return found[-1].parent if found else None
    return Path(on_path).resolve().parent


def _wait_for_postgresql(programs: Path, port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    limit_s = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < limit_s and server.poll() is None:
        ready = [programs / "pg_isready", "--host", "127.0.0.1", "--port", str(port), "--quiet"]
        if subprocess.run(ready).returncode == 0:
            return
        time.sleep(0.1)
    raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()[-2000:]}")
