"""The state of an export: a table with one row for each live picture, exported or left out.

The table is written after the pictures and before the feeds, so that neither it nor a feed names a missing
file.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from catalog_schemas.validation import TableError, make_schema, parquet_bytes, read_parquet_bytes
from toygan.errors import BadInput, Conflict, ObjectNotFound, Retryable
from toygan.storage.store import PARQUET, ObjectStore

STATE_KEY = "export.parquet"

STATE = make_schema(
    "export",
    [
        pa.field("channel", pa.string(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("recipe", pa.string(), nullable=False),
        pa.field("sku", pa.string(), nullable=False),
        pa.field("image_index", pa.int32(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("language", pa.string()),
        pa.field("handle", pa.string()),
        pa.field("alt", pa.string(), nullable=False),
        pa.field("left_out", pa.string(), nullable=False),  # JSON: maps frames to reasons
        pa.field("files", pa.string(), nullable=False),  # JSON: a list of File
    ],
)


@dataclass(frozen=True, kw_only=True)
class File:
    """One exported file."""

    key: str
    frame: str
    format: str
    width: int  # pixels
    height: int
    bytes: int
    below_advised: bool


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The result of the export of one live picture."""

    image_id: str
    recipe: str  # a digest of everything that the files depend on
    sku: str
    image_index: int
    category: str
    title: str | None
    language: str | None
    handle: str | None
    alt: str
    left_out: Mapping[str, str]  # maps frames to reasons; the empty name means all frames
    files: tuple[File, ...]


@dataclass(frozen=True, kw_only=True)
class State:
    """The rows by image id, and the version of the stored table, which a conditional write needs."""

    rows: Mapping[str, Exported]
    version: str | None


def read_state(place: ObjectStore, channel: str) -> State:
    """Reads the state of an export. Raises BadInput if `place` holds another channel's export.

    A damaged table counts as missing: the pictures are made again, under the same names.
    """
    try:
        data, version = place.get_versioned(STATE_KEY)
    except ObjectNotFound:
        return State(rows={}, version=None)
    try:
        found = read_parquet_bytes(data, STATE, STATE_KEY).to_pylist()
        rows = [_parsed(row) for row in found]
    except (TableError, ValueError, TypeError):
        return State(rows={}, version=version)
    others = {row["channel"] for row in found} - {channel}
    if others:
        raise BadInput(
            f"{place.uri} holds the export of the channel {', '.join(sorted(others))}; "
            "give another place with --to"
        )
    return State(rows={row.image_id: row for row in rows}, version=version)


def write_state(place: ObjectStore, channel: str, rows: Iterable[Exported], before: State) -> State:
    """Replaces the state if it has changed. Raises Retryable if another process has replaced it."""
    kept = {row.image_id: row for row in rows}
    if before.version is not None and dict(before.rows) == kept:
        return before
    table = pa.Table.from_pylist([_columns(channel, row) for row in kept.values()], schema=STATE)
    try:
        place.put_if(STATE_KEY, parquet_bytes(table), before.version, content_type=PARQUET)
    except Conflict:
        raise Retryable(
            f"{place.uri}: another export of {channel} is running there; run again when it is done"
        ) from None
    return State(rows=kept, version=place.get_versioned(STATE_KEY)[1])


def _columns(channel: str, row: Exported) -> dict[str, Any]:
    content = asdict(row)
    for name in ("left_out", "files"):
        content[name] = json.dumps(content[name], sort_keys=True, ensure_ascii=False)
    return {"channel": channel, **content}


def _parsed(row: Mapping[str, Any]) -> Exported:
    content = {name: value for name, value in row.items() if name != "channel"}
    content["left_out"] = json.loads(content["left_out"])
    content["files"] = tuple(File(**each) for each in json.loads(content["files"]))
    return Exported(**content)
