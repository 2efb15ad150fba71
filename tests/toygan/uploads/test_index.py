"""Reading indexed photos."""

import logging
from typing import Any

import pytest

from tests.toygan.uploads.uploads import picture, upload
from toygan.data.photo_index import indexed_photos
from toygan.errors import BadInput
from toygan.storage.memory import MemoryStore
from toygan.uploads.indexing import index_uploads


def test_rows_come_with_their_files_in_order() -> None:
    store = MemoryStore()
    upload(store, range(20))
    index = index_uploads(store).index
    found = list(indexed_photos(store))
    assert [row for row, _ in found] == index.to_pylist()
    assert all(data == store.get(row["photo_uri"]) for row, data in found)


def test_a_snapshot_is_read_without_what_came_later() -> None:
    store = MemoryStore()
    keys = upload(store, range(2))
    snapshot = index_uploads(store).index
    upload(store, range(2, 4))
    index_uploads(store)
    assert [row["photo_uri"] for row, _ in indexed_photos(store, snapshot)] == keys


def test_a_file_that_is_gone_or_another_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    kept, gone, other = upload(store, range(3))
    index_uploads(store)
    store.delete(gone)
    store.put(other, picture(9))
    with caplog.at_level(logging.WARNING):
        assert [row["photo_uri"] for row, _ in indexed_photos(store)] == [kept]
    assert gone in caplog.text
    assert other in caplog.text


def test_files_are_read_as_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    upload(store, range(60))
    index_uploads(store)
    read: list[str] = []
    get = store.get

    def counted(key: str) -> bytes:
        read.append(key)
        return get(key)

    monkeypatch.setattr(store, "get", counted)
    photos: Any = indexed_photos(store)
    next(photos)
    photos.close()
    assert len(read) < 20


def test_a_store_without_photos_is_named() -> None:
    with pytest.raises(BadInput, match="no indexed photo"):
        next(indexed_photos(MemoryStore("empty")))
