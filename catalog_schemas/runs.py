"""The tables of runs: the shards of a frozen plan, the manifest that commits a run, and the nights."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

import pyarrow as pa

from catalog_schemas.images import DECISIONS
from catalog_schemas.products import FINGERPRINTED, PRODUCTS
from catalog_schemas.validation import (
    MOST_WHOLE,
    NAME_PATTERN,
    SCHEMA_VERSION,
    TableError,
    make_schema,
    read_json_object,
    read_parquet_bytes,
)

MOST_SHARDS: Final = 100_000  # the largest number of shards in a run, because shard numbers have five digits
PLAN_COUNTS: Final = (*("products", "rejected_rows"), *("unchanged", "exhausted", "deferred", "planned"))

_MANIFEST_SCHEMA = f"run/{SCHEMA_VERSION}"
_NAME = re.compile(NAME_PATTERN)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHOWN_LETTERS = 80

PLAN = make_schema(
    "plan",
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("sku", pa.string(), nullable=False),
        pa.field("image_index", pa.int32(), nullable=False),
        # the number of pictures that the product wants
        pa.field("images_wanted", pa.int32(), nullable=False),
        # the number of wanted pictures that are live already and stay
        pa.field("images_kept", pa.int32(), nullable=False),
        pa.field("first_attempt", pa.int32(), nullable=False),
        # the largest number of attempts that the run may make
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("review_p_real", pa.float64()),  # the score of the best candidate that is already in review/
        # colour and colour_hex hold the main colour, which may come from another column
        *(PRODUCTS.field(name) for name in FINGERPRINTED),
        pa.field("colour_source", pa.string()),
        pa.field("condition_sha256", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("image_condition", pa.string()),
        pa.field("row_fingerprint", pa.string(), nullable=False),
        pa.field("sibling_phashes", pa.list_(pa.string()), nullable=False),
    ],
)

NIGHTS = make_schema(
    "nights",
    [
        pa.field("commit", pa.int64(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("started_at", pa.timestamp("us", tz="UTC"), nullable=False),
        # NAME@VERSION of the model that needs no condition image
        pa.field("model", pa.string(), nullable=False),
        pa.field("category", pa.string()),  # null in the row of all categories together
        pa.field("wanted", pa.int64(), nullable=False),  # pictures
        # the number of wanted pictures that are live after the run
        pa.field("covered", pa.int64(), nullable=False),
        pa.field("candidates", pa.int64(), nullable=False),
        # the number of candidates that the machine approved
        pa.field("approved", pa.int64(), nullable=False),
        # the number of candidates that the run left to people
        pa.field("review", pa.int64(), nullable=False),
        # the number of wanted pictures whose attempts are used up
        pa.field("exhausted", pa.int64(), nullable=False),
        # the number of candidates that wait for people after the run; null for a single category, and if not
        # counted
        pa.field("backlog", pa.int64()),
    ],
)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The results of a finished run. The manifest is written when everything that it names is in the store.

    `counts` maps names to whole numbers: products, rejected_rows, unchanged, planned, approved, review,
    rejected, ... `categories` holds such counts by category. `models` holds the number of candidates by
    decision, for each model (NAME@VERSION) that generated candidates. `model_name` and `model_version` name
    the model that needs no condition image. Times are ISO 8601 in UTC. `settings` are the settings of the
    frozen plan. `commit` is the manifest's number in the order of commits. This order decides which pictures
    are live. `incomplete` maps the skus of products with some but not all of their pictures to the number of
    pictures that they have and the number that they want. `incomplete` is cut if it is long.
    """

    run_id: str
    pipeline_version: str
    prefect_version: str
    started_at: str
    finished_at: str
    catalog_uri: str
    catalog_sha256: str
    settings: Mapping[str, Any]
    model_name: str
    model_version: str
    plan_sha256: str
    shards: int
    counts: Mapping[str, int]
    categories: Mapping[str, Mapping[str, int]]
    models: Mapping[str, Mapping[str, int]]
    commit: int
    incomplete: Mapping[str, Sequence[int]]

    @property
    def all_models(self) -> list[str]:
        """NAME@VERSION of each model of the run, first of the model that needs no condition image."""
        return list(dict.fromkeys([f"{self.model_name}@{self.model_version}", *self.models]))

    def to_json(self) -> str:
        """Returns the manifest as JSON with sorted keys."""
        content = {"schema": _MANIFEST_SCHEMA, **dataclasses.asdict(self)}
        return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "the manifest") -> Self:
        """Reads the manifest that `to_json` wrote. Raises TableError naming the wrong field."""
        content = read_json_object(text, where)
        if content.pop("schema", None) != _MANIFEST_SCHEMA:
            raise TableError(f"{where}: not a manifest of the schema {_MANIFEST_SCHEMA}")
        fields = {each.name: each.type for each in dataclasses.fields(cls)}
        if content.keys() != fields.keys():
            raise TableError(
                f"{where}: missing or unknown fields: {', '.join(sorted(content.keys() ^ fields.keys()))}"
            )
        for name, kind in fields.items():
            wanted = kind if isinstance(kind, type) else dict
            if not isinstance(content[name], wanted) or isinstance(content[name], bool):
                raise TableError(
                    f"{where}: the field {name!r} is {_shown(content[name])}; "
                    f"it must be of the type {wanted.__name__}"
                )
        manifest = cls(**content)
        _check_values(manifest, where)
        return manifest


def _check_values(manifest: Manifest, where: str) -> None:
    """Raises TableError for a field that has the right type but an impossible value."""
    for name in ("run_id", "model_name"):
        if not _NAME.fullmatch(getattr(manifest, name)):
            raise TableError(
                f"{where}: the field {name!r} is {_shown(getattr(manifest, name))}, which is not a valid name"
            )
    if not 0 <= manifest.commit <= MOST_WHOLE:
        raise TableError(f"{where}: the field 'commit' is {manifest.commit}; it must be 0 to {MOST_WHOLE}")
    if not 0 <= manifest.shards <= MOST_SHARDS:
        raise TableError(f"{where}: the field 'shards' is {manifest.shards}; it must be 0 to {MOST_SHARDS}")
    for model in manifest.models:
        if not all(_NAME.fullmatch(part) for part in model.split("@")) or model.count("@") != 1:
            raise TableError(
                f"{where}: the field 'models' names {_shown(model)}, which is not a model version"
            )
    check_counts(manifest.counts, (), where, "counts")
    for field_name in ("categories", "models"):
        for name, counts in getattr(manifest, field_name).items():
            check_counts(counts, (), where, f"{field_name}.{name}")


def check_report_fields(manifest: Manifest, where: str) -> None:
    """Raises TableError if a field that a report shows is missing or malformed."""
    for name in ("started_at", "finished_at"):
        try:
            aware = datetime.fromisoformat(getattr(manifest, name)).utcoffset() is not None
        except ValueError:
            aware = False
        if not aware:
            raise TableError(
                f"{where}: the field {name!r} is {_shown(getattr(manifest, name))}; it must be a time in UTC"
            )
    check_counts(manifest.counts, (*PLAN_COUNTS, *DECISIONS), where, "counts")
    for name, counts in manifest.categories.items():
        check_counts(counts, ("planned", *DECISIONS), where, f"categories.{name}")


def check_counts(counts: object, needed: Iterable[str], where: str, name: str) -> None:
    """Raises TableError unless `counts` maps names to whole numbers and has all `needed` names."""
    if not isinstance(counts, dict):
        raise TableError(
            f"{where}: the field {name!r} is {_shown(counts)}; it must map names to whole numbers"
        )
    if missing := sorted(set(needed) - counts.keys()):
        raise TableError(f"{where}: the field {name!r} lacks {', '.join(missing)}")
    for key, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MOST_WHOLE:
            raise TableError(
                f"{where}: the field {f'{name}.{key}'!r} is {_shown(count)}; "
                f"it must be a whole number from 0 to {MOST_WHOLE}"
            )


def _shown(value: object) -> str:
    """Formats a value for a message, and cuts it if it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN_LETTERS else text[:_SHOWN_LETTERS] + "..."


def read_plan(data: bytes, where: str) -> pa.Table:
    """Reads a shard of a frozen plan, a table of PLAN.

    Raises TableError if a condition file is missing or ambiguous.
    """
    table = read_parquet_bytes(data, PLAN, where)
    for row in table.select(["sku", "image_condition", "condition_sha256"]).to_pylist():
        digests = dict(row["condition_sha256"])
        if len(digests) != len(row["condition_sha256"]):
            raise TableError(f"{where}: {row['sku']} has two files for one condition")
        if row["image_condition"] is not None and digests.get(row["image_condition"]) is None:
            raise TableError(
                f"{where}: {row['sku']} is to be generated from a {_shown(row['image_condition'])}, but the "
                "row names no such file"
            )
        for digest in digests.values():
            if digest is None or not _SHA256.fullmatch(digest):
                raise TableError(
                    f"{where}: {row['sku']} names a condition file by {_shown(digest)}, which is not a sha256"
                )
    return table
