"""One real Prefect server for all tests of the flows, and the command line as a process."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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
