"""Uploads for tests."""

from collections import Counter
from typing import Any

import pytest

from toygan.errors import StoreUnavailable
from toygan.storage.memory import MemoryStore
from toygan.storage.store import ObjectStore
from toygan.uploads.index import read_tables


class CountingStore(MemoryStore):
    """Counts reads and writes by key; reading a key in `broken` raises `failure`."""

    def __init__(self) -> None:
        super().__init__()
        self.gets: Counter[str] = Counter()
        self.puts: Counter[str] = Counter()
        self.broken: set[str] = set()
        self.failure: Exception = StoreUnavailable("no answer")

    def get(self, key: str) -> bytes:
        self.gets[key] += 1
        if key in self.broken:
            raise self.failure
        return super().get(key)

    def put_if(self, key: str, data: bytes, version: str | None, **kwargs: Any) -> str:
        self.puts[key] += 1
        return super().put_if(key, data, version, **kwargs)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


def indexed(store: ObjectStore) -> list[str]:
    keys: list[str] = read_tables(store).index["photo_uri"].to_pylist()
    return keys


def reasons(store: ObjectStore) -> dict[str, str]:
    table = read_tables(store).quarantine
    return dict(zip(table["photo_uri"].to_pylist(), table["reason"].to_pylist(), strict=True))
