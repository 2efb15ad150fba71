"""Photo shards and the tables of uploads."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog_schemas.photos import (
    PHOTO_INDEX,
    PHOTO_SHARD,
    PHOTO_SHARD_REQUIRED,
    QUARANTINE,
    check_photo_rows,
    check_photo_shard,
    read_photo_index,
    read_quarantine,
    write_photo_index,
    write_quarantine,
)
from catalog_schemas.validation import TableError

PHOTO: dict[str, Any] = {
    "photo_id": "p1",
    "sku": "brick-1",
    "category": "brick",
    "colour_hex": "#B40000",
    "split": "train",
    "photo": b"\xff\xd8\xff",
}
REQUIRED = pa.schema([PHOTO_SHARD.field(name) for name in PHOTO_SHARD_REQUIRED])


def photos(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([{**PHOTO, **row} for row in rows], schema=REQUIRED)


def test_a_shard_with_the_required_columns_passes(tmp_path: Path) -> None:
    path = tmp_path / "photos.parquet"
    pq.write_table(photos({}), path)
    check_photo_shard(path)


@pytest.mark.parametrize("column", PHOTO_SHARD_REQUIRED)
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    path = tmp_path / "photos.parquet"
    pq.write_table(photos({}).drop_columns([column]), path)
    with pytest.raises(TableError, match=f"required column '{column}' is missing"):
        check_photo_shard(path)


def test_photos_as_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "photos.parquet"
    table = photos({}).drop_columns(["photo"]).append_column("photo", pa.array(["base64"]))
    pq.write_table(table, path)
    with pytest.raises(TableError, match="'photo' has the type string; it must be binary"):
        check_photo_shard(path)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("photo_id", None, "null"),
        ("sku", "../x", "malformed"),
        ("category", None, "null"),
        ("colour_hex", "red", "malformed"),
        ("split", "test", "unknown"),
        ("split", None, "null"),
        ("photo", b"", "empty"),
        ("photo", None, "null"),
    ],
)
def test_a_bad_photo_row_is_set_aside(column: str, value: Any, reason: str) -> None:
    checked = check_photo_rows(photos({}, {column: value}, {"colour_hex": None}), first_row=100)
    assert checked.rejected[["row", "column", "reason"]].to_numpy().tolist() == [[101, column, reason]]
    assert checked.good.index.to_list() == [100, 102]
    assert checked.good["photo"].to_list() == [PHOTO["photo"]] * 2


def test_the_real_shards_pass(toybricks: Path) -> None:
    shards = sorted((toybricks / "photos").glob("*.parquet"))
    assert shards
    for shard in shards:
        check_photo_shard(shard)
    assert check_photo_rows(pq.read_table(shards[-1])).rejected.empty


INDEXED: dict[str, Any] = {
    "photo_id": "0123456789abcdef0123",
    "sku": "brick-1",
    "category": "brick",
    "photo_uri": "photos/brick/brick-1/b.jpg",
    "sha256": "ab" * 32,
    "bytes": 900,
    "width": 64,
    "height": 48,
    "format": "jpg",
    "phash": "f" * 16,
    "colour_hex": None,
    "split": "train",
    "indexed_at": datetime(2026, 11, 24, tzinfo=UTC),
}
SET_ASIDE: dict[str, Any] = {
    "photo_uri": "photos/brick/brick-1/b.jpg",
    "sha256": None,
    "bytes": 3,
    "reason": "no picture",
    "seen_at": datetime(2026, 11, 24, tzinfo=UTC),
}


@pytest.mark.parametrize(
    ("row", "schema", "write", "read"),
    [
        (INDEXED, PHOTO_INDEX, write_photo_index, read_photo_index),
        (SET_ASIDE, QUARANTINE, write_quarantine, read_quarantine),
    ],
    ids=["index", "quarantine"],
)
def test_tables_come_back_sorted_by_uri(
    row: dict[str, Any],
    schema: pa.Schema,
    write: Callable[[pa.Table], bytes],
    read: Callable[[bytes], pa.Table],
) -> None:
    rows = [row, {**row, "photo_uri": "photos/brick/brick-1/a.jpg"}]
    data = write(pa.Table.from_pylist(rows, schema=schema))
    assert read(data).to_pylist() == rows[::-1]
    assert write(pa.Table.from_pylist(rows[::-1], schema=schema)) == data
    with pytest.raises(TableError, match="damaged"):
        read(data[:-9])
    with pytest.raises(TableError, match="'photo_uri' is missing"):
        write(pa.Table.from_pylist(rows, schema=schema).drop_columns(["photo_uri"]))
