"""People's decisions about pictures. Each decision is one JSON object; a table holds all decisions.

A decision is written once and never changed. Decisions and commits of runs are numbered in one sequence. The
number says which of two decisions is the later one. The table also holds pictures that a run retired, because
the catalog no longer asks for them. Each run writes its retired pictures as one table, and as another one the
undos of retirements, for pictures that the catalog asks for again.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, Self

import pyarrow as pa

from catalog_schemas.images import APPROVED, CURRENT, FORMATS, MACHINE, OF_CANDIDATE, REVIEW
from catalog_schemas.products import MAX_IMAGES_WANTED
from catalog_schemas.validation import (
    MOST_WHOLE,
    SCHEMA_VERSION,
    TableError,
    conform,
    is_category,
    is_sku,
    make_schema,
    parquet_bytes,
    read_json_object,
    read_parquet_bytes,
)

APPROVE, REJECT, REDRAW, UNDO = KINDS = ("approve", "reject", "redraw", "undo")
RETIRE = "retire"  # the machine's decision about a picture that the catalog no longer asks for
MOST_REASON_LETTERS: Final = 500
MOST_NAME_LETTERS: Final = 64

_SCHEMA = f"decision/{SCHEMA_VERSION}"
_DECISION_ID = re.compile(r"[0-9a-f]{32}")
_IMAGE_ID = re.compile(r"[0-9a-f]{20}")
_PHASH = re.compile(r"[0-9a-f]{16}")
_HEX64 = re.compile(r"[0-9a-f]{64}")
_PICTURE = tuple(CURRENT.field(name).with_nullable(name == "phash") for name in OF_CANDIDATE)

DECISIONS = make_schema(
    "decisions",
    [
        pa.field("decision_id", pa.string(), nullable=False),
        pa.field("commit", pa.int64(), nullable=False),
        pa.field("decision", pa.string(), nullable=False),  # one of KINDS, or RETIRE
        pa.field("undoes", pa.string()),  # the id of the decision that an undo takes back
        pa.field("decided_by", pa.string(), nullable=False),
        pa.field("decided_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("reason", pa.string()),
        # These columns describe the picture: its row of the metadata, the machine's decision, and its run's
        # commit.
        *_PICTURE,
        pa.field("machine_decision", pa.string(), nullable=False),
        pa.field("run_commit", pa.int64(), nullable=False),
    ],
)
_ORDER = [("commit", "ascending"), ("decision_id", "ascending")]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One decision about one picture: a row of DECISIONS. `decided_at` is ISO 8601 in UTC."""

    decision_id: str
    commit: int
    decision: str
    undoes: str | None
    decided_by: str
    decided_at: str
    reason: str | None
    sku: str
    image_index: int
    image_id: str
    category: str
    image_uri: str
    sha256: str
    model_name: str
    model_version: str
    row_fingerprint: str
    run_id: str
    phash: str | None
    machine_decision: str
    run_commit: int

    def row(self) -> dict[str, Any]:
        """Returns the decision as a row of DECISIONS."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return values | {"decided_at": datetime.fromisoformat(self.decided_at)}

    def to_json(self) -> str:
        """Returns the decision as JSON with sorted keys."""
        content = {each.name: getattr(self, each.name) for each in fields(self)}
        return json.dumps({"schema": _SCHEMA, **content}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Self:
        """Reads the decision that `to_json` wrote. Raises TableError naming the wrong field."""
        content = read_json_object(text, where)
        if content.pop("schema", None) != _SCHEMA:
            raise TableError(f"{where}: not a decision of the schema {_SCHEMA}")
        names = {each.name for each in fields(cls)}
        if content.keys() != names:
            raise TableError(
                f"{where}: missing or unknown fields: {', '.join(sorted(content.keys() ^ names))}"
            )
        for name, is_right in _checks(content).items():
            if not is_right:
                raise TableError(f"{where}: the field {name!r} is {content[name]!r:.80}, which is not valid")
        return cls(**content)


def is_person(name: object) -> bool:
    """Says whether a text can name the person who decides: 1 to 64 printable characters, not `machine`."""
    return (
        isinstance(name, str)
        and 0 < len(name) <= MOST_NAME_LETTERS
        and name.isprintable()
        and name == name.strip()
        and name.lower() != MACHINE
    )


def is_decision_id(text: object) -> bool:
    """Says whether a text can be the id of a decision: 32 lower-case hex digits."""
    return isinstance(text, str) and bool(_DECISION_ID.fullmatch(text))


def is_reason(text: object) -> bool:
    """Says whether a text can be the reason of a decision: at most 500 characters, or None."""
    return text is None or (isinstance(text, str) and 0 < len(text) <= MOST_REASON_LETTERS and is_text(text))


def is_text(text: str) -> bool:
    """Says whether a text can be stored as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _checks(content: Mapping[str, Any]) -> dict[str, bool]:
    def matches(name: str, pattern: re.Pattern[str]) -> bool:
        return isinstance(content[name], str) and bool(pattern.fullmatch(content[name]))

    def whole(name: str, least: int, most: int = MOST_WHOLE) -> bool:
        return type(content[name]) is int and least <= content[name] <= most

    undoes = content["undoes"]
    return {
        "decision_id": is_decision_id(content["decision_id"]),
        "commit": whole("commit", 1),
        "decision": content["decision"] in KINDS,
        "undoes": (undoes is not None) == (content["decision"] == UNDO)
        and (undoes is None or is_decision_id(undoes)),
        "decided_by": is_person(content["decided_by"]),
        "decided_at": _is_time(content["decided_at"]),
        "reason": is_reason(content["reason"]),
        "sku": isinstance(content["sku"], str) and is_sku(content["sku"]),
        "image_index": whole("image_index", 0, MAX_IMAGES_WANTED),
        "image_id": matches("image_id", _IMAGE_ID),
        "category": isinstance(content["category"], str) and is_category(content["category"]),
        "image_uri": isinstance(content["image_uri"], str)
        and is_text(content["image_uri"])
        and content["image_uri"].rpartition(".")[2] in FORMATS
        and content["image_uri"].rpartition("/")[2].partition(".")[0] == content["image_id"],
        "sha256": matches("sha256", _HEX64),
        "row_fingerprint": matches("row_fingerprint", _HEX64),
        **{
            name: isinstance(content[name], str) and is_text(content[name])
            for name in ("model_name", "model_version", "run_id")
        },
        "phash": matches("phash", _PHASH) or (content["phash"] is None and content["decision"] != APPROVE),
        "machine_decision": content["machine_decision"] in (APPROVED, REVIEW),
        "run_commit": whole("run_commit", 0),
    }


def _is_time(text: object) -> bool:
    try:
        return isinstance(text, str) and datetime.fromisoformat(text).utcoffset() is not None
    except ValueError:
        return False


def decisions_table(decisions: "list[Decision]") -> pa.Table:
    """Returns decisions as a table of DECISIONS, sorted by commit number and decision id."""
    return pa.Table.from_pylist([each.row() for each in decisions], schema=DECISIONS).sort_by(_ORDER)


def write_decisions(table: pa.Table) -> bytes:
    """Writes decisions as Parquet, sorted by their numbers. Raises TableError if `table` is not DECISIONS."""
    return parquet_bytes(conform(table, DECISIONS, "the decisions").sort_by(_ORDER).combine_chunks())


def read_decisions(data: bytes, where: str) -> pa.Table:
    """Reads the table that `write_decisions` made. Raises TableError for anything else."""
    return read_parquet_bytes(data, DECISIONS, where)
