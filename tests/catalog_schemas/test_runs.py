"""The manifest of a run."""

import json
from typing import Any

import pytest

from catalog_schemas.runs import Manifest
from catalog_schemas.validation import TableError

MANIFEST = Manifest(
    run_id="nightly-1",
    pipeline_version="0.1.0",
    prefect_version="3.8.8",
    started_at="2026-11-01T00:00:00+00:00",
    finished_at="2026-11-01T00:10:00+00:00",
    catalog_uri="katalog ü.parquet",
    catalog_sha256="a" * 64,
    settings={"mode": "missing", "limit": None, "categories": ["brick"]},
    model_name="toybricks",
    model_version="0123456789ab",
    plan_sha256="b" * 64,
    shards=3,
    counts={"products": 10, "approved": 7},
    categories={"brick": {"approved": 7}},
    models={"toybricks@0123456789ab": {"approved": 7}},
    commit=41,
    incomplete={"a": [2, 3]},
)


def test_a_manifest_survives_json() -> None:
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST
    assert Manifest.from_json(MANIFEST.to_json().encode()) == MANIFEST


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": "run/2"}, "not a manifest of the schema run/1"),
        ({"shards": "3"}, "'shards' is '3'; it must be of the type int"),
        ({"shards": True}, "'shards' is True"),
        ({"counts": []}, "'counts' is .*of the type dict"),
        ({"new": 1}, "missing or unknown fields: new"),
        ({"run_id": None}, "'run_id' is None; it must be of the type str"),
    ],
)
def test_a_manifest_with_a_wrong_field_is_refused(changes: dict[str, Any], said: str) -> None:
    text = json.dumps({**json.loads(MANIFEST.to_json()), **changes})
    with pytest.raises(TableError, match=f"runs/x.json: .*{said}"):
        Manifest.from_json(text, "runs/x.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"run/1"', b"\xff\xfe"])
def test_what_is_no_manifest_is_refused(text: str | bytes) -> None:
    with pytest.raises(TableError):
        Manifest.from_json(text)
