"""Uploads for tests."""

from collections import Counter
from typing import Any

import pytest

from toygan.errors import StoreUnavailable
from toygan.storage.memory import MemoryStore
from toygan.uploads.index import read_tables


class CountingStore(MemoryStore):
    """Counts reads and writes by key; keys in `broken` cannot be read."""

    def __init__(self) -> None:
        super().__init__()
        self.gets: Counter[str] = Counter()
        self.puts: Counter[str] = Counter()
        self.broken: set[str] = set()

    def get(self, key: str) -> bytes:
        self.gets[key] += 1
        if key in self.broken:
            raise StoreUnavailable(f"no answer for {key}")
        return super().get(key)

    def put_if(self, key: str, data: bytes, version: str | None, **kwargs: Any) -> str:
        self.puts[key] += 1
        return super().put_if(key, data, version, **kwargs)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


def indexed(store: MemoryStore) -> list[str]:
    keys: list[str] = read_tables(store).index["photo_uri"].to_pylist()
    return keys


def reasons(store: MemoryStore) -> dict[str, str]:
    table = read_tables(store).quarantine
    return dict(zip(table["photo_uri"].to_pylist(), table["reason"].to_pylist(), strict=True))
