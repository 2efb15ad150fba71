"""Listings and what they make of the index and the quarantine."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from PIL import Image

from catalog_schemas.validation import TableError
from tests.servers import S3Server, fresh_bucket
from tests.toygan.uploads.uploaded import CountingStore, indexed, reasons
from tests.toygan.uploads.uploaded import store as store
from tests.toygan.uploads.uploads import CATEGORIES, picture, upload
from toygan import picture_files
from toygan.storage.keys import PHOTO_INDEX_KEY, QUARANTINE_KEY
from toygan.storage.local import LocalStore
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectInfo
from toygan.uploads import indexing
from toygan.uploads.indexing import index_uploads


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


@pytest.mark.parametrize("key", [PHOTO_INDEX_KEY, QUARANTINE_KEY])
def test_a_damaged_table_names_the_remedy_and_is_made_again(store: CountingStore, key: str) -> None:
    keys = upload(store, range(3))
    store.put("photos/brick/sku-9/a.png", b"no picture")
    index_uploads(store)
    store.put(key, b"PAR1")
    with pytest.raises(TableError, match=f"damaged .*; remove {key}; the next listing of the uploads"):
        index_uploads(store)
    store.delete(key)
    index_uploads(store)
    assert indexed(store) == keys
    assert list(reasons(store)) == ["photos/brick/sku-9/a.png"]


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


@pytest.mark.parametrize("failure", [MemoryError(), OSError(errno.EMFILE, "Too many open files")])
def test_a_photo_that_the_machine_cannot_decode_now_is_read_again(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fail(*_: object, **__: object) -> Image.Image:
        raise failure

    (key,) = upload(store, range(1))
    with monkeypatch.context() as short:
        short.setattr(Image, "open", fail)
        result = index_uploads(store)
    assert (result.added, result.quarantined, result.unread) == (0, 0, 1)
    assert index_uploads(store).added == 1
    assert indexed(store) == [key]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_photos_without_permission_are_read_when_they_have_it(tmp_path: Path) -> None:
    """However many they are, the others are indexed."""
    store = LocalStore(tmp_path)
    closed, good = upload(store, range(10, 20)), upload(store, range(20, 22))
    for key in closed:
        (tmp_path / key).chmod(0)
    result = index_uploads(store, CATEGORIES)
    assert (result.added, result.quarantined, result.unread) == (2, 0, 10)
    assert indexed(store) == good
    for key in closed:
        (tmp_path / key).chmod(0o600)
    result = index_uploads(store, CATEGORIES)
    assert (result.added, result.quarantined, result.unread) == (10, 0, 0)
    assert not reasons(store)


def test_a_photo_that_a_bucket_refuses_is_read_when_it_no_longer_does(
    moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket refuses an archived object until somebody restores it."""
    uri = fresh_bucket(moto, monkeypatch)
    client, key = boto3.client("s3", region_name="us-east-1"), "photos/brick/sku-1/front.png"
    for storage, counts in (("GLACIER", (0, 0, 1)), ("STANDARD", (1, 0, 0))):
        client.put_object(Bucket=uri[5:], Key=key, Body=picture(1), StorageClass=storage)
        result = index_uploads(open_store(uri), CATEGORIES)
        assert (result.added, result.quarantined, result.unread) == counts


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
