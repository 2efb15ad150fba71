"""Whole runs of the tiny model, without Prefect."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.catalog_schemas.tables import product, write_catalog
from tests.models import BATCH, CATEGORIES, COLOURS, tiny_model
from toygan.conditions.condition_types import ModelRole
from toygan.generation import request as request_module
from toygan.generation import run as run_module
from toygan.generation import worker_spec
from toygan.generation.request import RunRequest, resolve_run
from toygan.generation.run import run_shard, start_run
from toygan.planning.finished import read_manifest, read_part
from toygan.publishing.commit import complete_open_runs
from toygan.publishing.finish import finish_run
from toygan.publishing.summary import RunSummary
from toygan.storage.store import ObjectStore

MODEL = tiny_model(acceptance=0.3)


def write_inputs(folder: Path, **changes: Any) -> Path:
    """MODEL as `tiny`, and a catalog of four products in each of its categories, with `changes`, and a row
    without a sku."""
    MODEL.write(folder / "tiny")
    rows = [
        product(
            sku=f"{category}-{number}",
            category=category,
            title="Brick 2 x 4, Red, teal lid",
            colour_hex=COLOURS[number],
            **changes,
        )
        for category in CATEGORIES
        for number in range(4)
    ]
    write_catalog(folder / "catalog.parquet", [*rows, product(sku=None)])
    return folder


def request(folder: Path, **changes: Any) -> RunRequest:
    """A run of what write_inputs wrote. `changes` of the names of roles are models; None leaves one out."""
    models = {"main": str(folder / "tiny")}
    models |= {role: changes.pop(role) for role in get_args(ModelRole) if role in changes}
    usual = RunRequest(
        catalog=str(folder / "catalog.parquet"),
        output="memory://run",
        run_id="run-1",
        models={role: name for role, name in models.items() if name is not None},
        batch_size=BATCH,
    )
    return replace(usual, **changes)


def generate(wanted: RunRequest) -> RunSummary:
    """As the flow does."""
    resolved = resolve_run(wanted)
    complete_open_runs(resolved.store)
    run = start_run(resolved)
    for shard in run.pending:
        run_shard(run.worker_spec, run.plan.run_id, shard, run.plan.settings.format)
    summary = finish_run(run, "3.8.8")
    summary.check_finite()
    return summary


def rows_of(store: ObjectStore, run_id: str = "run-1") -> list[dict[str, Any]]:
    """The metadata of a finished run."""
    manifest = read_manifest(store, run_id)
    assert manifest is not None
    parts = [read_part(store, run_id, shard) for shard in range(manifest.shards)]
    return [row for part in parts for row in part.to_pylist(maps_as_pydicts="strict")]


def lead_to(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes runs of this process use `store`, whatever their URI."""
    for module in (run_module, request_module, worker_spec):
        monkeypatch.setattr(module, "open_store", lambda uri: store)
