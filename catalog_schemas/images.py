"""Output tables: the metadata of decided candidates (one row each), the live pictures and the attempts."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from catalog_schemas.products import COLOUR_HEX_PATTERN
from catalog_schemas.validation import (
    TableError,
    conform,
    make_schema,
    parquet_bytes,
    read_json_object,
    read_parquet_bytes,
)

APPROVED, REVIEW, REJECTED = DECISIONS = ("approved", "review", "rejected")
MACHINE = "machine"  # the `decided_by` of a live picture about which no person decided
FORMATS = ("webp", "jpg", "png")
FILE_COLUMNS = ("image_uri", "sha256", "width", "height", "format", "bytes")

IMAGES = make_schema(
    "images",
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("sku", pa.string(), nullable=False),
        pa.field("image_index", pa.int32(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("title", pa.string()),  # the title in the catalog row
        pa.field("language", pa.string()),
        pa.field("colour", pa.string()),
        pa.field("handle", pa.string()),  # the product's handle in a Shopify export
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("decision", pa.string(), nullable=False),
        pa.field("reasons", pa.list_(pa.string()), nullable=False),
        # the next six columns are null for a rejected candidate
        pa.field("image_uri", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("format", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("model_name", pa.string(), nullable=False),
        pa.field("model_version", pa.string(), nullable=False),
        pa.field("model_family", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("attempt", pa.int32(), nullable=False),
        pa.field("batch_size", pa.int32(), nullable=False),
        pa.field("engine", pa.string(), nullable=False),  # the library that ran the network, and its version
        pa.field("truncation", pa.float64()),
        # the next seven columns are null for a picture that is not finite, because it cannot be measured
        pa.field("logit", pa.float64()),
        pa.field("p_real", pa.float64()),
        pa.field("threshold", pa.float64()),
        pa.field("phash", pa.string()),
        pa.field("fill_ratio", pa.float64()),
        pa.field("background_white", pa.float64()),
        pa.field("colour_delta_e", pa.float64()),
        pa.field("conditions", pa.string(), nullable=False),
        pa.field("condition_sha256", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("row_fingerprint", pa.string(), nullable=False),
        pa.field("generated_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("pipeline_version", pa.string(), nullable=False),
        pa.field("digital_source_type", pa.string(), nullable=False),
    ],
)

CURRENT = make_schema(
    "current",
    [
        pa.field("sku", pa.string(), nullable=False),
        pa.field("image_index", pa.int32(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("image_uri", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("model_name", pa.string(), nullable=False),
        pa.field("model_version", pa.string(), nullable=False),
        pa.field("row_fingerprint", pa.string(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("phash", pa.string(), nullable=False),
        # the commit number of the run, or of a person's approval; if a slot has several approved pictures,
        # the one with the highest number is live
        pa.field("commit", pa.int64(), nullable=False),
        pa.field("decided_by", pa.string(), nullable=False),  # MACHINE, or the name of a person
    ],
)
OF_CANDIDATE = CURRENT.names[:-2]  # the columns that IMAGES has, too

SLOT = ("sku", "image_index")
ATTEMPT_KEYS = (*SLOT, "row_fingerprint", "model")

ATTEMPTS = make_schema(
    "attempts",
    [
        pa.field("sku", pa.string(), nullable=False),
        pa.field("image_index", pa.int32(), nullable=False),
        pa.field("row_fingerprint", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),  # NAME@VERSION
        # the highest attempt number of finished runs, plus 1
        pa.field("attempts", pa.int32(), nullable=False),
        # true if the last attempt was not approved, so that no further one is made
        pa.field("exhausted", pa.bool_(), nullable=False),
        # the commit number of the last run that made an attempt
        pa.field("commit", pa.int64(), nullable=False),
        pa.field("review_uri", pa.string()),  # the file of the best candidate in review/
        pa.field("review_p_real", pa.float64()),
    ],
)


def write_current(table: pa.Table) -> bytes:
    """Writes the live pictures as Parquet, sorted by sku and image_index. The same rows give the same bytes.

    Raises TableError if the table is not CURRENT, or if two rows have the same sku and image_index.
    """
    ordered = conform(table, CURRENT, "current.parquet").sort_by([(name, "ascending") for name in SLOT])
    keys = ordered.select(SLOT)
    if keys.group_by(SLOT).aggregate([]).num_rows != keys.num_rows:
        raise TableError("current.parquet: two rows have the same sku and image_index; remove one of them")
    return parquet_bytes(ordered.combine_chunks())


def read_current(data: bytes) -> pa.Table:
    """Reads the table that `write_current` made. Raises TableError for anything else."""
    try:
        return read_parquet_bytes(data, CURRENT, "current.parquet")
    except TableError as error:
        raise TableError(f"{error}; remove it; the next run makes it again") from error


def write_attempts(table: pa.Table) -> bytes:
    """Writes the attempts as Parquet, sorted by key. Raises TableError if the table is not ATTEMPTS."""
    ordered = conform(table, ATTEMPTS, "the attempts").sort_by([(name, "ascending") for name in ATTEMPT_KEYS])
    return parquet_bytes(ordered.combine_chunks())


def write_images(table: pa.Table) -> bytes:
    """Writes decided candidates as Parquet. Raises TableError if the table is not IMAGES."""
    return parquet_bytes(conform(table, IMAGES, "the image metadata"))


def check_stored(row: Mapping[str, Any], where: str) -> None:
    """Checks a row that is not rejected. Raises TableError if the stored file or the score is missing."""
    needed = ("image_uri", "format", "p_real", "threshold")
    if missing := [name for name in needed if row[name] is None]:
        raise TableError(
            f"{where}: the {row['decision']} picture of {row['sku']} has no {', '.join(missing)}"
        )
    if row["format"] not in FORMATS:
        raise TableError(f"{where}: the picture of {row['sku']} has the unknown format {row['format']!r}")
    colour_hex = read_json_object(row["conditions"], f"{where}: conditions of {row['sku']}").get("colour_hex")
    if colour_hex is not None and not (
        isinstance(colour_hex, str) and COLOUR_HEX_PATTERN.fullmatch(colour_hex)
    ):
        raise TableError(
            f"{where}: the picture of {row['sku']} has a colour_hex that is not of the form #RRGGBB"
        )
