"""`python -m flows.deployments` for those who have set up nothing: it brings its own Prefect server."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import REPOSITORY
from tests.flows.serving import Service
from tests.servers import free_port

pytestmark = pytest.mark.service

LIMIT_S = 300
STOP_LIMIT_S = 180
COMMAND = [sys.executable, "-m", "flows.deployments"]


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment without a Prefect server, and with a port of its own for one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "TOYGAN_"))}
    return {
        **kept,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_API_PORT": str(free_port()),
        "XDG_CACHE_HOME": str(tmp_path),
        "PYTHONPATH": str(REPOSITORY),
    }


def test_the_server_comes_and_goes_with_the_service(tmp_path: Path, bare: dict[str, str]) -> None:
    url = f"http://127.0.0.1:{bare['PREFECT_SERVER_API_PORT']}/api"
    log = tmp_path / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(COMMAND, env=bare, cwd=tmp_path, stdout=sink, stderr=sink)
    try:
        service = Service(environment={**bare, "PREFECT_API_URL": url}, log=log, process=process)
        service.wait_for("the server", lambda: _is_up(url))
        for name in ("generate-catalog", "watch-photos", "retrain"):
            deployment = service.deployment(name)
            assert not deployment["paused"]
        parameters = service.deployment("watch-photos")["parameters"]["parameters"]
        assert parameters["store"] == str(tmp_path / "toygan-store")
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_LIMIT_S) == 0, log.read_text()
        limit_s = time.monotonic() + STOP_LIMIT_S
        while _is_up(url) and time.monotonic() < limit_s:
            time.sleep(0.2)
        assert not _is_up(url), "the server has outlived the service"
    finally:
        process.kill()
        process.wait()


SERVES = """
import time
from flows.local_server import local_server
with local_server() as url:
    print(url, flush=True)
    time.sleep(600)
"""


def test_the_server_ends_with_a_service_that_is_killed(tmp_path: Path, bare: dict[str, str]) -> None:
    process = subprocess.Popen([sys.executable, "-c", SERVES], env=bare, cwd=tmp_path, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip().endswith(b"/api")
        servers = psutil.Process(process.pid).children(recursive=True)
        assert servers
        process.kill()
        _, alive = psutil.wait_procs(servers, timeout=STOP_LIMIT_S)
        assert not alive
    finally:
        process.kill()
        process.wait()


STARTS_A_TEMPORARY_ONE = """
from flows.local_server import temporary_server
from toygan.errors import BadInput
try:
    temporary_server()
except BadInput as error:
    print(error)
"""


def test_a_database_of_another_prefect_is_named_when_the_server_ends(
    tmp_path: Path, bare: dict[str, str]
) -> None:
    home = Path(bare["PREFECT_HOME"])
    home.mkdir()
    with closing(sqlite3.connect(home / "prefect.db")) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        database.execute("INSERT INTO alembic_version VALUES ('ffffdeadbeef')")
    command = [sys.executable, "-c", STARTS_A_TEMPORARY_ONE]
    done = subprocess.run(command, env=bare, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S)
    (printed,) = done.stdout.splitlines()
    assert f"Prefect's database {home / 'prefect.db'} was made by another version of Prefect" in printed
    assert "set PREFECT_HOME" in printed
    assert done.stderr == ""


def test_a_home_that_cannot_be_written_is_named_without_a_warning(
    tmp_path: Path, bare: dict[str, str]
) -> None:
    (tmp_path / "file").touch()
    command = [sys.executable, "-c", STARTS_A_TEMPORARY_ONE]
    environment = {**bare, "PREFECT_HOME": str(tmp_path / "file" / "prefect")}
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S
    )
    (printed,) = done.stdout.splitlines()
    assert "set PREFECT_HOME to a folder that can be written" in printed
    assert done.stderr == ""


def test_a_port_that_is_taken_is_named(tmp_path: Path, bare: dict[str, str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = subprocess.run(
            COMMAND,
            env={**bare, "PREFECT_SERVER_API_PORT": str(port)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
    assert done.returncode == 2
    assert f"port {port} is in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_setting_that_is_wrong_is_named(tmp_path: Path, bare: dict[str, str]) -> None:
    done = subprocess.run(
        COMMAND,
        env={**bare, "TOYGAN_TIMEZONE": "Europe/Atlantis"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert (done.returncode, done.stderr) == (
        2,
        "toygan: TOYGAN_TIMEZONE: there is no such time zone; give a name such as Europe/Berlin\n",
    )


def _is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=30).is_success
    except httpx.HTTPError:
        return False
