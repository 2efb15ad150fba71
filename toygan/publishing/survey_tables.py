"""Reads tables for the survey of a store, and says what their rows must look like."""

import hashlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from catalog_schemas.images import APPROVED, CURRENT, IMAGES, OF_CANDIDATE, REVIEW
from catalog_schemas.validation import TableError, read_parquet_bytes
from toygan.errors import BadInput, ObjectNotFound
from toygan.planning.attempts import FROM_PARTS
from toygan.storage.keys import CURRENT_KEY, image_key, manifest_key, review_key
from toygan.storage.store import ObjectStore

_ROW_COLUMNS = tuple(dict.fromkeys((*OF_CANDIDATE, *FROM_PARTS, "format", "condition_sha256")))


def place_of(row: dict[str, Any]) -> str | None:
    """Returns the key that the picture of a row must have; None if the row must have none."""
    try:
        if row["decision"] == APPROVED:
            return image_key(row["category"], row["sku"], row["image_id"], row["format"])
        if row["decision"] == REVIEW:
            return review_key(row["run_id"], row["image_id"], row["format"])
    except BadInput as error:
        return f"nowhere: {error}"
    return None


def digest_of(row: dict[str, Any]) -> bytes:
    """Returns a digest of a picture's row in current.parquet. It takes less memory than the row."""
    text = "\x1f".join(str(row[name]) for name in CURRENT.names)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def read_table(store: ObjectStore, key: str, read: Callable[[bytes, str], pa.Table]) -> pa.Table | str | None:
    """Returns a table of the store, or a description of its fault, or None if it is missing."""
    try:
        return read(store.get(key), key)
    except ObjectNotFound:
        return None
    except (TableError, BadInput) as error:
        return str(error)


def read_part(data: bytes, key: str) -> pa.Table:
    return read_parquet_bytes(data, IMAGES, key, _ROW_COLUMNS)


def give_up(run_id: str) -> str:
    """Returns the remedy for a damaged file of a finished run."""
    return (
        f"restore it from a copy; or give the run up: remove {manifest_key(run_id)}, {CURRENT_KEY} and "
        "state/, and the next run makes again what is missing"
    )
