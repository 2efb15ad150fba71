"""All kinds of `--photos` through one door."""

from pathlib import Path

import pyarrow as pa
import pytest

from catalog_schemas.photos import PHOTO_SHARD
from tests.shards import COLOURS, SHARD_SCHEMA, photo, photo_row, write_shard
from toygan.data.photo import WantedConditions
from toygan.data.sources import read_photos
from toygan.data.split import split_of_upload
from toygan.errors import BadInput
from toygan.storage.keys import CURRENT_KEY, PHOTO_INDEX_KEY
from toygan.storage.open_store import open_store
from toygan.uploads.indexing import index_uploads

SKUS = [sku for sku in (f"sku-{number}" for number in range(50)) if split_of_upload(sku) == "train"][:3]
MEASURED = next(sku for sku in (f"sku-{number}" for number in range(90)) if split_of_upload(sku) == "val")


def skus(uri: str | Path, split: str = "train") -> list[str]:
    return [each.sku for each in read_photos(uri, split=split)]


def fill_store(uri: str) -> None:
    """Uploads of three products that train and of one that is measured on, indexed."""
    store = open_store(uri)
    for number, sku in enumerate((*SKUS, MEASURED)):
        store.put(f"photos/brick/{sku}/front.jpg", photo(COLOURS[number]))
    assert index_uploads(store).added == 4


def test_shards_in_a_folder(tmp_path: Path) -> None:
    write_shard(tmp_path, [photo_row("b")], name="two")
    write_shard(tmp_path, [photo_row("a"), photo_row("m", split="val")], name="one")
    assert skus(tmp_path) == ["a", "b"]
    assert skus(tmp_path, "val") == ["m"]


def test_shards_at_s3(tmp_path: Path, s3_uri: str) -> None:
    write_shard(tmp_path, [photo_row("a"), photo_row("m", split="val")])
    store = open_store(f"{s3_uri}/shards")
    store.put("photos-000.parquet", (tmp_path / "photos-000.parquet").read_bytes())
    store.put("deeper/photos-000.parquet", b"not of this folder")
    assert skus(f"{s3_uri}/shards") == ["a"]
    store.put("photos-001.parquet", b"PAR1, or not")
    with pytest.raises(BadInput, match=rf"{s3_uri}/shards/photos-001\.parquet"):
        skus(f"{s3_uri}/shards")


def test_indexed_uploads_of_a_store(tmp_path: Path) -> None:
    fill_store(str(tmp_path))
    assert sorted(skus(tmp_path)) == sorted(SKUS)
    (found,) = read_photos(tmp_path, split="val")
    assert (found.sku, found.category, found.title) == (MEASURED, "brick", None)
    assert found.photo == photo(COLOURS[3])
    assert found.source == open_store(str(tmp_path)).uri


def test_indexed_uploads_at_s3(s3_uri: str) -> None:
    fill_store(s3_uri)
    assert sorted(skus(s3_uri)) == sorted(SKUS)


def test_the_index_comes_before_the_folders_of_a_store(tmp_path: Path) -> None:
    """A store's own folders and its table of live pictures are no photos to train on."""
    fill_store(str(tmp_path))
    (tmp_path / "images" / "brick").mkdir(parents=True)
    (tmp_path / CURRENT_KEY).write_bytes(b"no shard")
    assert sorted(skus(tmp_path)) == sorted(SKUS)


def test_a_damaged_index_is_named(tmp_path: Path) -> None:
    open_store(str(tmp_path)).put(PHOTO_INDEX_KEY, b"no table")
    with pytest.raises(BadInput, match=rf"{tmp_path}: the photo index: .* damaged"):
        skus(tmp_path)


def test_pictures_by_category(tmp_path: Path) -> None:
    (tmp_path / "brick").mkdir()
    for sku in SKUS:
        (tmp_path / "brick" / f"brick-{sku}.jpg").write_bytes(photo(COLOURS[0]))
    assert sorted(skus(tmp_path) + skus(tmp_path, "val")) == sorted(f"brick-{sku}" for sku in SKUS)


def test_shards_come_before_folders(tmp_path: Path) -> None:
    write_shard(tmp_path, [photo_row("a")])
    (tmp_path / "brick").mkdir()
    (tmp_path / "brick" / "b.jpg").write_bytes(photo(COLOURS[0]))
    assert skus(tmp_path) == ["a"]


def test_nothing_at_all_says_what_there_might_be(tmp_path: Path, s3_uri: str) -> None:
    what = r"give photo shards \(\*\.parquet\), a store with indexed uploads, or a folder with a subfolder"
    with pytest.raises(BadInput, match=rf"no photos in {tmp_path}; {what}"):
        skus(tmp_path)
    with pytest.raises(BadInput, match=rf"no photo shards .* at {s3_uri}; {what}"):
        skus(s3_uri)


def test_a_condition_that_is_not_there_is_named(tmp_path: Path) -> None:
    message = "'sketch', which this family needs"
    write_shard(tmp_path / "shards", [photo_row("a")])
    fill_store(str(tmp_path / "store"))
    (tmp_path / "folder" / "brick").mkdir(parents=True)
    for kind in ("shards", "store", "folder"):
        with pytest.raises(BadInput, match=rf"{kind}.*no column {message}"):
            list(read_photos(tmp_path / kind, split="train", drawings=WantedConditions(kind="sketch")))


def test_a_condition_comes_with_its_photo(tmp_path: Path) -> None:
    schema: pa.Schema = SHARD_SCHEMA.append(PHOTO_SHARD.field("sketch"))
    write_shard(tmp_path, [photo_row("a", sketch=b"lines"), photo_row("b")], schema=schema)
    found = list(read_photos(tmp_path, split="train", drawings=WantedConditions(kind="sketch")))
    assert [each.condition for each in found] == [b"lines", None]


def test_a_condition_may_be_missing_if_it_can_be_predicted(tmp_path: Path) -> None:
    write_shard(tmp_path / "shards", [photo_row("a")])
    fill_store(str(tmp_path / "store"))
    write_pictures = tmp_path / "folder" / "brick"
    write_pictures.mkdir(parents=True)
    (write_pictures / "a.jpg").write_bytes(photo_row("a")["photo"])
    for kind in ("shards", "store", "folder"):
        splits = (
            read_photos(tmp_path / kind, split=split, drawings=WantedConditions(kind="layout", may_lack=True))
            for split in ("train", "val")
        )
        found = [each for split in splits for each in split]
        assert found
        assert {each.condition for each in found} == {None}


def test_lines_come_beside_the_layout(tmp_path: Path) -> None:
    fields = [PHOTO_SHARD.field(name) for name in ("layout", "sketch")]
    rows = [photo_row("a", sketch=b"lines", layout=b"labels"), photo_row("b", layout=b"labels")]
    write_shard(tmp_path, rows, schema=pa.unify_schemas([SHARD_SCHEMA, pa.schema(fields)]))
    for with_lines, wanted in ((True, [b"lines", None]), (False, [None, None])):
        drawings = WantedConditions(kind="layout", lines=with_lines)
        found = list(read_photos(tmp_path, split="train", drawings=drawings))
        assert [each.condition for each in found] == [b"labels"] * 2
        assert [each.lines for each in found] == wanted
