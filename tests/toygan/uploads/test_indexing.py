"""Listings and what they make of the index and the quarantine."""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_schemas.photos import read_photo_index, write_photo_index
from tests.toygan.uploads.uploads import CATEGORIES, picture, upload
from toygan import picture_files
from toygan.errors import StoreUnavailable
from toygan.storage.keys import PHOTO_INDEX_KEY, QUARANTINE_KEY
from toygan.storage.local import LocalStore
from toygan.storage.memory import MemoryStore
from toygan.storage.store import ObjectInfo
from toygan.uploads import indexing
from toygan.uploads.index import read_tables
from toygan.uploads.indexing import index_uploads, index_when_quiet


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

    def put_if(self, key: str, data: bytes, version: str | None, **kwargs: Any) -> None:
        self.puts[key] += 1
        super().put_if(key, data, version, **kwargs)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


def indexed(store: MemoryStore) -> list[str]:
    keys: list[str] = read_tables(store).index["photo_uri"].to_pylist()
    return keys


def reasons(store: MemoryStore) -> dict[str, str]:
    table = read_tables(store).quarantine
    return dict(zip(table["photo_uri"].to_pylist(), table["reason"].to_pylist(), strict=True))


def test_new_photos_are_added_and_read_once(store: CountingStore) -> None:
    keys = upload(store, range(3))
    result = index_uploads(store, CATEGORIES)
    assert (result.listed, result.added, result.quarantined) == (3, 3, 0)
    assert indexed(store) == keys == result.index["photo_uri"].to_pylist()
    more = upload(store, range(3, 5))
    assert index_uploads(store, CATEGORIES).added == 2
    assert indexed(store) == keys + more
    assert {key: store.gets[key] for key in keys + more} == dict.fromkeys(keys + more, 1)


def test_an_unchanged_listing_writes_nothing(store: CountingStore) -> None:
    upload(store, range(3))
    store.put("photos/brick/sku-9/a.png", b"no picture")
    index_uploads(store)
    before = store.puts.copy()
    result = index_uploads(store)
    assert (result.listed, result.added, result.quarantined, result.removed) == (4, 0, 0, 0)
    assert store.puts == before
    assert store.puts[PHOTO_INDEX_KEY] == store.puts[QUARANTINE_KEY] == 1


def test_a_store_without_uploads_gets_no_index(store: CountingStore) -> None:
    assert index_uploads(store).listed == 0
    assert not store.puts


def test_a_bad_file_stops_no_other_and_stays_where_it_is(store: CountingStore) -> None:
    bad = {
        "photos/brick/sku-1/a.png": b"no picture",
        "photos/brick/sku-2/b.png": picture(2)[:-30],
        "photos/castle/sku-3/c.png": picture(3),
        "photos/readme.txt": b"hello",
        "photos/brick/sku 4/d.png": picture(4),
    }
    for key, data in bad.items():
        store.put(key, data)
    good = upload(store, range(5, 7))
    result = index_uploads(store, CATEGORIES)
    assert (result.added, result.quarantined) == (2, 5)
    assert indexed(store) == good
    assert reasons(store).keys() == bad.keys()
    assert reasons(store)["photos/castle/sku-3/c.png"] == (
        "unknown category 'castle': a model learns it when there are 20 photos; known are brick, plant"
    )
    assert all(store.get(key) == data for key, data in bad.items())
    # Only what its name did not condemn was read.
    assert store.gets["photos/readme.txt"] == 1  # by this test


def test_a_file_that_is_too_large_is_not_read(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_files, "MAX_FILE_BYTES", 10)
    (key,) = upload(store, range(1))
    index_uploads(store)
    assert "more than 10" in reasons(store)[key]
    assert store.gets[key] == 0


def test_what_breaks_the_decoder_is_one_row_not_the_run(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, evil = upload(store, range(2))
    inspect = indexing.inspect_photo

    def broken(key: str, data: bytes) -> object:
        return 1 / 0 if key == evil else inspect(key, data)

    monkeypatch.setattr(indexing, "inspect_photo", broken)
    index_uploads(store)
    assert indexed(store) == [good]
    assert "ZeroDivisionError" in reasons(store)[evil]


def test_of_the_same_content_the_first_file_counts_until_it_goes(store: CountingStore) -> None:
    for name in "cab":
        store.put(f"photos/brick/sku-1/{name}.png", picture(1))
    index_uploads(store)
    assert indexed(store) == ["photos/brick/sku-1/a.png"]
    assert set(reasons(store).values()) == {"a duplicate of photos/brick/sku-1/a.png"}
    store.put("photos/brick/sku-0/later.png", picture(1))
    index_uploads(store)
    assert indexed(store) == ["photos/brick/sku-1/a.png"]
    store.delete("photos/brick/sku-1/a.png")
    index_uploads(store)
    assert indexed(store) == ["photos/brick/sku-0/later.png"]
    assert set(reasons(store)) == {"photos/brick/sku-1/b.png", "photos/brick/sku-1/c.png"}


def test_a_category_that_becomes_known_leaves_the_quarantine(store: CountingStore) -> None:
    (key,) = upload(store, range(1), category="castle")
    index_uploads(store, CATEGORIES)
    assert key in reasons(store)
    result = index_uploads(store, [*CATEGORIES, "castle"])
    assert result.added == 1
    assert indexed(store) == [key]
    assert not reasons(store)


def test_without_known_categories_any_well_formed_one_will_do(store: CountingStore) -> None:
    (key,) = upload(store, range(1), category="castle")
    index_uploads(store)
    assert indexed(store) == [key]


def test_a_file_that_is_gone_or_replaced_is_taken_out_or_looked_at_again(store: CountingStore) -> None:
    kept, gone, replaced, spoilt = upload(store, range(4))
    index_uploads(store)
    store.delete(gone)
    store.put(replaced, picture(7, side=50))
    store.put(spoilt, b"no picture any more")
    result = index_uploads(store)
    assert (result.removed, result.added, result.quarantined) == (3, 1, 1)
    assert indexed(store) == [kept, replaced]
    assert list(reasons(store)) == [spoilt]
    store.delete(spoilt)
    index_uploads(store)
    assert not reasons(store)


def test_a_marker_of_a_folder_is_no_upload(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 browsers make an empty object of a folder."""

    def listing(prefix: str = "") -> Iterator[ObjectInfo]:
        yield ObjectInfo("photos/brick/", 0)

    monkeypatch.setattr(store, "list_all", listing)
    assert index_uploads(store).listed == 0


def test_names_that_no_key_can_be_are_quarantined_until_they_are_renamed(tmp_path: Path) -> None:
    """As Windows zips, cameras and mistakes bring them; and a link."""
    store = LocalStore(tmp_path)
    folder = tmp_path / "photos" / "brick" / "sku-1"
    folder.mkdir(parents=True)
    names = [
        b"good.png",
        b"caf\xe9.png",
        "玩具.png".encode("gbk"),
        b"a\\b.png",
        b"new\nline.png",
        b"bell\x07.png",
    ]
    for number, name in enumerate(names):
        Path(os.fsdecode(bytes(folder) + b"/" + name)).write_bytes(picture(number))
    bad_folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/photos/brick/gr\xfcn"))
    bad_folder.mkdir()
    (bad_folder / "a.png").write_bytes(picture(7))
    (folder / "link.png").symlink_to(folder / "good.png")
    result = index_uploads(store, CATEGORIES)
    assert (result.listed, result.added, result.quarantined) == (8, 1, 7)
    found = reasons(store)
    start = "photos/brick/sku-1/"
    wanted = ["a\\\\b.png", "bell\\x07.png", "caf\\xE9.png", "new\\nline.png", "\\xCD\\xE6\\xBE\\xDF.png"]
    assert sorted(found) == sorted(
        [*(start + name for name in wanted), start + "link.png", "photos/brick/gr\\xFCn/a.png"]
    )
    assert "put the file itself there" in found.pop(start + "link.png")
    assert all(reason.endswith("; rename it") and "\n" not in reason for reason in found.values())
    assert index_uploads(store, CATEGORIES).quarantined == 0
    Path(os.fsdecode(bytes(folder) + b"/caf\xe9.png")).rename(folder / "cafe.png")
    result = index_uploads(store, CATEGORIES)
    assert (result.added, result.removed) == (1, 1)


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


def test_one_file_that_cannot_be_read_is_tried_again(store: CountingStore) -> None:
    keys = upload(store, range(3))
    store.broken = {keys[0]}
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
    """While it judges its files another one lists later, and is done sooner."""
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
