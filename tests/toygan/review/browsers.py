"""A real browser, and a review page as a process of its own."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.servers import free_port

LIMIT_MS = 120_000.0


def chromium() -> str:
    """The path of Debian's browser; tests without it are skipped."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("there is no chromium here; apt-get install chromium")
    return found


@contextmanager
def a_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"], timeout=LIMIT_MS
        )
        expect.set_options(timeout=LIMIT_MS)
        yield browser
        browser.close()


class ReviewProcess:
    """`toygan review` of a folder, at the same address when it is started again."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.start()

    def start(self) -> None:
        command = "from flows.cli import main; main()"
        options = ["review", "--output", str(self._folder), "--port", str(self._port)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", command, *options], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split(" at ")[1].split()[0]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=180)
