"""A run: what it plans to do, shard by shard, and the manifest that commits it."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import pyarrow as pa

from catalog_schemas.products import FINGERPRINTED, PRODUCTS
from catalog_schemas.validation import SCHEMA_VERSION, TableError, make_schema

_MANIFEST_SCHEMA = f"run/{SCHEMA_VERSION}"

PLAN = make_schema(
    "plan",
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("sku", pa.string(), nullable=False),
        pa.field("image_index", pa.int32(), nullable=False),
        pa.field("images_wanted", pa.int32(), nullable=False),  # of the product
        pa.field("images_kept", pa.int32(), nullable=False),  # of these, live pictures that stay
        pa.field("first_attempt", pa.int32(), nullable=False),
        pa.field("attempts", pa.int32(), nullable=False),  # that the run may make
        pa.field("review_p_real", pa.float64()),  # of the best candidate that lies in review/ already
        *(PRODUCTS.field(name) for name in FINGERPRINTED),
        *(PRODUCTS.field(name) for name in ("sketch_uri", "layout_uri", "reference_photo_uri")),
        pa.field("condition_sha256", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("image_condition", pa.string()),
        pa.field("row_fingerprint", pa.string(), nullable=False),
        pa.field("sibling_phashes", pa.list_(pa.string()), nullable=False),
    ],
)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a finished run did; it is written when everything that it speaks of lies in the store.

    `counts` holds whole numbers by name: products, rejected_rows, unchanged, planned, approved, review,
    rejected, ... `categories` holds the same by category, `models` what became of the candidates of each
    model (NAME@VERSION) that drew any. `model_name` and `model_version` are those of the model that needs no
    image to draw from. Times are ISO 8601 in UTC. `settings` are those the plan was frozen with.
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
    models: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # older manifests lack it

    @property
    def all_models(self) -> list[str]:
        """NAME@VERSION of each model that may have drawn; the one that needs no image comes first."""
        return list(dict.fromkeys([f"{self.model_name}@{self.model_version}", *self.models]))

    def to_json(self) -> str:
        """The manifest as JSON with sorted keys."""
        content = {"schema": _MANIFEST_SCHEMA, **dataclasses.asdict(self)}
        return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "the manifest") -> Self:
        """The manifest that to_json wrote; raises TableError that names the field that is wrong."""
        try:
            content = json.loads(text)
        except ValueError as error:
            raise TableError(f"{where}: not JSON ({error})") from error
        if not isinstance(content, dict) or content.pop("schema", None) != _MANIFEST_SCHEMA:
            raise TableError(f"{where}: not a manifest of the schema {_MANIFEST_SCHEMA}")
        fields = {each.name: each.type for each in dataclasses.fields(cls)}
        content.setdefault("models", {})
        if content.keys() != fields.keys():
            raise TableError(
                f"{where}: missing or unknown fields: {', '.join(sorted(content.keys() ^ fields.keys()))}"
            )
        for name, kind in fields.items():
            wanted = kind if isinstance(kind, type) else dict
            if not isinstance(content[name], wanted) or isinstance(content[name], bool):
                raise TableError(
                    f"{where}: the field {name!r} is {content[name]!r}, wanted is {wanted.__name__}"
                )
        return cls(**content)
