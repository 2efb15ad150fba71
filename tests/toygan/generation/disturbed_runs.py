"""Stores and models for the tests of runs."""

from pathlib import Path

import pytest

from tests.toygan.generation.whole_runs import write_inputs
from toygan.generation import request as request_module
from toygan.generation import run as run_module
from toygan.generation import worker_spec
from toygan.storage.memory import MemoryStore
from toygan.storage.store import ObjectStore


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and a catalog of four products in each of its categories."""
    return write_inputs(tmp_path_factory.mktemp("run"))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """What every URI leads to, in the modules of a run."""
    store = MemoryStore("run")
    lead_to(store, monkeypatch)
    return store


def lead_to(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (run_module, request_module, worker_spec):
        monkeypatch.setattr(module, "open_store", lambda uri: store)


def contents(store: ObjectStore, *prefixes: str) -> dict[str, bytes]:
    return {info.key: store.get(info.key) for prefix in prefixes for info in store.list(prefix)}
