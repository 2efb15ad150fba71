"""One real Prefect server for all tests of the flows, and the command line as a process."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.reach import DEFAULTS
from tests.flows.command import Command
from tests.servers import prefect_server

COMMAND_LIMIT_S = 300

Toygan = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def toygan_here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs the command line in this process, for what needs no process of its own."""
    return Command(monkeypatch, capfd)


@pytest.fixture(scope="session")
def prefect_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of processes that report to a server of their own: SQLite, a free loopback port."""
    with prefect_server(tmp_path_factory.mktemp("prefect")) as environment:
        yield environment


@pytest.fixture
def flows_here(prefect_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets flows run in this process against the real server."""
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_HOME,
        PREFECT_LOGGING_TO_API_ENABLED,
        temporary_settings,
    )

    values = {name: prefect_environment[name] for name in ("PREFECT_API_URL", "PREFECT_HOME")}
    for name, value in {**DEFAULTS, **values}.items():
        monkeypatch.setenv(name, value)
    # The thread that sends logs would outlive the server.
    known = {PREFECT_API_URL: values["PREFECT_API_URL"], PREFECT_HOME: values["PREFECT_HOME"]}
    with temporary_settings({**known, PREFECT_LOGGING_TO_API_ENABLED: False}):
        yield


@pytest.fixture(scope="session")
def toygan(prefect_environment: dict[str, str]) -> Toygan:
    """Runs the command line in a process of its own: toygan("generate", "--catalog", ...)."""

    def run(*arguments: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "flows.cli", *map(str, arguments)],
            env={**prefect_environment, **environment},
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT_S,
        )

    return run
