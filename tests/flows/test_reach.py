"""What is said of a Prefect server that cannot be used: one line, with the remedy."""

import json
import os
import pwd
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prefect.settings import PREFECT_HOME, temporary_settings

from flows.reach import check_home, check_server, reach_loopback_directly
from flows.server_failures import why_it_ended
from flows.settings import service_settings
from tests.servers import free_port
from tests.toygan.generation.whole_runs import write_inputs
from toygan.errors import BadInput, Retryable

pytestmark = pytest.mark.service


@contextmanager
def stub(status: int, body: bytes) -> Iterator[tuple[str, list[str]]]:
    """A server with one answer for all but `/health`; yields its address and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output clean."""

        def do_GET(self) -> None:
            asked.append(self.path)
            is_health = self.path.endswith("/health")
            self.send_response(200 if is_health else status)
            self.end_headers()
            self.wfile.write(b"true" if is_health else body)

        do_CONNECT = do_POST = do_GET  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


PAGE = b"<!doctype html><title>Log in</title>"


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (401, b'{"exception_message": "Unauthorized"}', BadInput, "PREFECT_API_AUTH_STRING"),
        (403, b"", BadInput, "requires a login"),
        (407, b"", BadInput, "NO_PROXY"),
        (200, PAGE, BadInput, "correct PREFECT_API_URL"),
        (200, json.dumps({"version": 3}).encode(), BadInput, "its answer is not a version"),
        (404, PAGE, BadInput, "is not the API of a Prefect server"),
        (503, PAGE, Retryable, "status 503"),
    ],
)
def test_a_server_that_cannot_be_used_is_named(
    status: int, body: bytes, kind: type[Exception], said: str
) -> None:
    with stub(status, body) as (url, asked), pytest.raises(kind, match=said) as caught:
        check_server(f"{url}/api")
    assert f"{url}/api" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(asked) == 1


def test_a_server_that_is_down_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    with pytest.raises(Retryable, match="correct PREFECT_API_URL"):
        check_server(url)


@pytest.mark.parametrize("url", ["localhost:4200/api", "ftp://localhost/api"])
def test_an_address_that_is_no_url_is_named(url: str) -> None:
    with pytest.raises(BadInput, match="correct PREFECT_API_URL"):
        check_server(url)


def test_loopback_is_reached_past_a_proxy(
    prefect_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with stub(502, b"") as (proxy, asked):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy)
        monkeypatch.setenv("NO_PROXY", "shop.internal")
        monkeypatch.delenv("no_proxy", raising=False)
        reach_loopback_directly()
        check_server(prefect_environment["PREFECT_API_URL"])
        assert asked == []
        with pytest.raises(Retryable, match="status 502"):
            check_server("http://prefect.example/api")
        assert len(asked) == 1


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    home = tmp_path / "file" / "prefect"
    with temporary_settings({PREFECT_HOME: home}), pytest.raises(BadInput) as caught:
        check_home()
    assert str(home) in str(caught.value)
    assert "set PREFECT_HOME" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        (
            "alembic.util.exc.CommandError: Can't locate revision identified by 'ab12'",
            BadInput,
            "another version",
        ),
        ("sqlalchemy.exc.DatabaseError: (sqlite3.DatabaseError) file is not a database", BadInput, "damaged"),
        ("sqlite3.DatabaseError: database disk image is malformed", BadInput, "damaged"),
        ("sqlite3.OperationalError: unable to open database file", BadInput, "cannot be written"),
        ("sqlite3.OperationalError: attempt to write a readonly database", BadInput, "cannot be written"),
        ("sqlite3.OperationalError: database or disk is full", Retryable, "make room"),
        ("OSError: [Errno 28] No space left on device", Retryable, "make room"),
        ("OSError: Multiple exceptions: [Errno 111] Connect call failed", Retryable, "does not answer"),
        ("ImportError: cannot import name 'nothing'", Retryable, "cannot import name 'nothing'"),
    ],
)
def test_why_a_server_ended_is_found_in_its_lines(line: str, kind: type[Exception], said: str) -> None:
    error = why_it_ended(3, ["Traceback (most recent call last):\n", f"{line}\n", "\n", "startup failed.\n"])
    assert type(error) is kind
    assert said in str(error)
    assert "\n" not in str(error)


NO_HOME = """
import pwd, sys
def none(uid): raise KeyError(uid)
pwd.getpwuid = none
"""
SERVICE = "from flows.deployments import main; main()"
RUN = """
from flows.cli import main
sys.argv[1:] = "generate --catalog catalog.parquet --model ./tiny --output store --device cpu".split()
main()
"""


def without_home(start: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Starts a process of a user whom the machine does not know, as in a container."""
    ours = ("HOME", "XDG_CACHE_HOME", "PREFECT_HOME")
    return subprocess.run(
        [sys.executable, "-c", NO_HOME + start],
        env={name: value for name, value in os.environ.items() if name not in ours}
        | {"PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_user_without_a_home_folder_can_generate(tmp_path: Path) -> None:
    done = without_home(RUN, write_inputs(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "planned 12" in done.stdout


@pytest.mark.parametrize("needs", ["PREFECT_API_URL", "nothing"])
def test_what_needs_prefect_names_the_missing_home_in_one_line(
    needs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if needs == "PREFECT_API_URL":
        monkeypatch.setenv(needs, "http://127.0.0.1:1/api")
    done = without_home(SERVICE if needs == "nothing" else RUN, write_inputs(tmp_path))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "this user has no home folder, and Prefect needs one; set HOME to a folder" in done.stderr


def test_the_settings_of_a_user_without_a_home_have_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", none)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert service_settings().work == ""
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert service_settings().work == "/cache/toygan/retraining"
