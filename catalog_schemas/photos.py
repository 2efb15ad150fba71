"""Photo tables: the shards for training, the index of the uploads, and the quarantine of unusable uploads."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from catalog_schemas.products import COLOUR_HEX_PATTERN, FINISHES
from catalog_schemas.validation import (
    CheckedTable,
    check_schema,
    conform,
    is_category,
    is_sku,
    make_schema,
    matches,
    not_null,
    open_parquet,
    parquet_bytes,
    read_parquet_bytes,
    rejected_frame,
    row_check,
    row_problems,
    row_schema,
)

SPLITS = ("train", "val")

PHOTO_SHARD = make_schema(
    "photo_shard",
    [
        pa.field("photo_id", pa.string(), nullable=False),
        pa.field("sku", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("part", pa.string()),
        pa.field("title", pa.string()),
        pa.field("title_zh", pa.string()),
        pa.field("description", pa.string()),
        pa.field("colour", pa.string()),
        pa.field("colour_hex", pa.string()),
        pa.field("finish", pa.string()),
        pa.field("azimuth_deg", pa.float64()),
        pa.field("elevation_deg", pa.float64()),
        pa.field("split", pa.string(), nullable=False),
        pa.field("photo", pa.binary(), nullable=False),
        pa.field("layout", pa.binary()),
        pa.field("sketch", pa.binary()),
        pa.field("snapshot", pa.binary()),
        pa.field("mask", pa.binary()),
        pa.field("free_snapshot", pa.binary()),
        pa.field("free_mask", pa.binary()),
    ],
)
PHOTO_SHARD_REQUIRED = ("photo_id", "sku", "category", "colour_hex", "split", "photo")

PHOTO_INDEX = make_schema(
    "photo_index",
    [
        pa.field("photo_id", pa.string(), nullable=False),
        pa.field("sku", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("photo_uri", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("format", pa.string(), nullable=False),
        pa.field("phash", pa.string(), nullable=False),
        pa.field("colour_hex", pa.string()),
        pa.field("split", pa.string(), nullable=False),
        pa.field("indexed_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ],
)

QUARANTINE = make_schema(
    "quarantine",
    [
        pa.field("photo_uri", pa.string(), nullable=False),
        pa.field("sha256", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("seen_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ],
)


def write_photo_index(table: pa.Table) -> bytes:
    """Writes indexed photos as Parquet, sorted by URI. Raises TableError if the table is not PHOTO_INDEX."""
    return parquet_bytes(conform(table, PHOTO_INDEX, "the photo index").sort_by("photo_uri"))


def read_photo_index(data: bytes) -> pa.Table:
    """Reads the table that `write_photo_index` made. Raises TableError for anything else."""
    return read_parquet_bytes(data, PHOTO_INDEX, "the photo index")


def write_quarantine(table: pa.Table) -> bytes:
    """Writes unusable photos as Parquet, sorted by URI. Raises TableError if the table is not QUARANTINE."""
    return parquet_bytes(conform(table, QUARANTINE, "the quarantine").sort_by("photo_uri"))


def read_quarantine(data: bytes) -> pa.Table:
    """Reads the table that `write_quarantine` made. Raises TableError for anything else."""
    return read_parquet_bytes(data, QUARANTINE, "the quarantine")


def check_photo_shard(path: Path) -> None:
    """Raises TableError if the file is not a photo shard. Reads only the file's footer."""
    with open_parquet(path) as file:
        check_schema(file.schema_arrow, PHOTO_SHARD, PHOTO_SHARD_REQUIRED, str(path))


def check_photo_rows(rows: pa.RecordBatch | pa.Table, first_row: int = 0) -> CheckedTable:
    """Separates usable from unusable rows of a photo shard. Numbers rows from `first_row`; keeps all columns.

    Does not decode the photos. A null colour means that the colour is unknown.
    """
    frame = rows.to_pandas()
    frame.index += first_row
    problems = row_problems(_row_checks(), frame).sort_values("row", kind="stable")
    return CheckedTable(
        good=frame.drop(index=problems["row"].unique()),
        rejected=rejected_frame(problems, frame["sku"].loc[problems["row"]]),
    )


@lru_cache(maxsize=1)
def _row_checks() -> Any:
    return row_schema(
        {
            "photo_id": (not_null(),),
            "sku": (not_null(), row_check("malformed", lambda values: values.map(is_sku).astype(bool))),
            "category": (
                not_null(),
                row_check("malformed", lambda values: values.map(is_category).astype(bool)),
            ),
            "colour_hex": (row_check("malformed", lambda values: matches(values, COLOUR_HEX_PATTERN)),),
            "finish": (row_check("unknown", lambda values: values.isin(FINISHES)),),
            "split": (not_null(), row_check("unknown", lambda values: values.isin(SPLITS))),
            "photo": (not_null(), row_check("empty", lambda values: values.map(len) > 0)),
        },
        required=False,
    )
