"""Fixtures of the tests of exports."""

from pathlib import Path

import pytest

from toygan.storage.local import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOYGAN_AIGC_PRODUCER", "Toy Shop 玩具")
