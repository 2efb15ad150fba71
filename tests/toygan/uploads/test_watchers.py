"""Several watchers, late photos, failures of the store."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_schemas.photos import read_photo_index, write_photo_index
from tests.toygan.uploads.uploaded import CountingStore, indexed, reasons
from tests.toygan.uploads.uploaded import store as store
from tests.toygan.uploads.uploads import CATEGORIES, picture, upload
from toygan.errors import StoreConfigError, StoreUnavailable
from toygan.storage.keys import PHOTO_INDEX_KEY
from toygan.storage.memory import MemoryStore
from toygan.uploads import indexing
from toygan.uploads.index import read_tables
from toygan.uploads.indexing import index_uploads, index_when_quiet


def test_a_later_photo_is_later_whatever_the_clock_says(store: CountingStore) -> None:
    upload(store, range(1))
    index = index_uploads(store).index
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    column = index.schema.get_field_index("indexed_at")
    ahead = index.set_column(column, index.schema.field(column), [[tomorrow]])
    store.put(PHOTO_INDEX_KEY, write_photo_index(ahead))
    upload(store, range(1, 2))
    assert index_uploads(store).index["indexed_at"].to_pylist() == [
        tomorrow,
        tomorrow + timedelta(microseconds=1),
    ]


def test_what_was_committed_stays_when_the_store_fails(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "_FILES_A_COMMIT", 4)
    keys = upload(store, range(40))
    store.broken = set(keys[8:])
    with pytest.raises(StoreUnavailable, match="could not be read"):
        index_uploads(store)
    assert indexed(store)
    assert set(indexed(store)) <= set(keys[:8])
    store.broken = set()
    index_uploads(store)
    assert indexed(store) == sorted(keys)


@pytest.mark.parametrize(
    "failure", [StoreUnavailable("busy"), StoreConfigError("encrypted"), MemoryError(), ValueError("a bug")]
)
def test_one_file_that_cannot_be_read_is_tried_again(store: CountingStore, failure: Exception) -> None:
    keys = upload(store, range(3))
    store.broken, store.failure = {keys[0]}, failure
    result = index_uploads(store)
    assert (result.added, result.quarantined, result.unread) == (2, 0, 1)
    store.broken = set()
    assert index_uploads(store).added == 1
    assert indexed(store) == keys


def test_watchers_at_the_same_time_lose_nothing_and_count_nothing_twice(store: CountingStore) -> None:
    keys = upload(store, range(40))
    copies = [key.replace("front", "back") for key in keys[:10]]
    for key in copies:
        store.put(key, store.get(key.replace("back", "front")))
    store.put("photos/brick/sku-0/a.txt", b"no picture")
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: index_uploads(store, CATEGORIES), range(4)))
    assert sum(result.added for result in results) == 40
    tables = read_tables(store)
    contents = tables.index["sha256"].to_pylist()
    assert len(contents) == len(set(contents)) == 40
    assert tables.quarantine.num_rows == 11
    assert index_uploads(store, CATEGORIES).removed == 0


def test_a_watcher_with_an_old_listing_takes_nothing_out(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one index checks its files, another lists later and ends sooner."""
    upload(store, range(1))
    inspect = indexing.inspect_photo

    def slow(key: str, data: bytes) -> dict[str, Any]:
        monkeypatch.setattr(indexing, "inspect_photo", inspect)
        upload(store, range(1, 3))
        assert index_uploads(store).added == 3
        return inspect(key, data)

    monkeypatch.setattr(indexing, "inspect_photo", slow)
    result = index_uploads(store)
    assert (result.added, result.index.num_rows) == (0, 3)
    assert not reasons(store)


@settings(max_examples=30, deadline=None)
@given(
    rounds=st.lists(
        st.dictionaries(
            st.sampled_from([f"photos/{c}/s/{f}.png" for c in ("brick", "castle") for f in "abc"]),
            st.none() | st.sampled_from([picture(1), picture(2, side=48), b"no picture"]),
        ),
        max_size=4,
    )
)
def test_every_file_ends_in_exactly_one_table(rounds: list[dict[str, bytes | None]]) -> None:
    """Whatever is uploaded, replaced and removed in between, the tables end as those of a single listing."""
    store, at_once = MemoryStore(), MemoryStore()
    for changes in rounds:
        for key, data in changes.items():
            store.delete(key) if data is None else store.put(key, data)
        index_uploads(store, CATEGORIES)
    for info in store.list("photos/"):
        at_once.put(info.key, store.get(info.key))
    index_uploads(at_once, CATEGORIES)
    files = [info.key for info in store.list("photos/")]
    tables = read_tables(store)
    assert sorted(tables.index["photo_uri"].to_pylist() + tables.quarantine["photo_uri"].to_pylist()) == files
    contents = sorted(read_tables(at_once).index["sha256"].to_pylist())
    assert sorted(tables.index["sha256"].to_pylist()) == contents


def test_the_index_is_quiet_when_a_listing_finds_nothing_new(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(store, range(2))
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) <= 3:
            upload(store, range(10 * len(naps), 10 * len(naps) + 2))

    monkeypatch.setattr(indexing.time, "sleep", sleep)
    index = index_when_quiet(store, CATEGORIES, quiet_s=20.0, patience_s=1000.0)
    assert index.num_rows == 8
    assert naps == [20.0] * 4
    assert read_photo_index(store.get(PHOTO_INDEX_KEY)).equals(index)


def test_there_is_an_end_to_waiting_for_quiet(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(1000))
    monkeypatch.setattr(
        indexing.time, "sleep", lambda seconds: upload(store, range(n := next(numbers), n + 1))
    )
    index = index_when_quiet(store, CATEGORIES, quiet_s=20.0, patience_s=-1.0)
    assert index.num_rows == 1
