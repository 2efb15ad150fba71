"""What a night costs in a store that has grown: `python -m tests.benchmarks growth`.

The store has 200,000 live pictures of ten categories and 366 nights behind it; ten rows of the catalog have
changed. Its pictures are not there, as no night reads them. Wanted are 3 minutes from the command to its end
and 2 GiB on two cores, and at most 60 requests. Stated besides: a night without any change, and how long it
takes to make the summaries again.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog_schemas.images import APPROVED, DECISIONS, IMAGES, write_images
from catalog_schemas.runs import PLAN, Manifest
from catalog_schemas.validation import read_parquet_bytes
from tests.benchmarks.planning import write_catalog
from tests.models import tiny_model
from toygan.conditions.condition_types import ModelRole
from toygan.planning.plan import FrozenPlan, ModelScope, RunSettings, freeze_plan
from toygan.publishing.commit import complete_open_runs, publish_manifest
from toygan.publishing.nights import rebuild_nights
from toygan.storage.keys import part_key, plan_key
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectStore

PRODUCTS = 200_000
CATEGORIES = 10
NIGHTS = 366
CHANGED = 10

_CHILD = """
import json, sys, threading, time
from collections import Counter

began_s = time.time()
from toygan.storage.local import LocalStore

counts = Counter()

inside = threading.local()

def counted(name):
    call = getattr(LocalStore, name)
    def method(self, *args, **options):
        if getattr(inside, "call", False):  # of another method of the store, which would be one request
            return call(self, *args, **options)
        counts[name] += 1
        inside.call = True
        try:
            return call(self, *args, **options)
        finally:
            inside.call = False
    return method

for name in ("get", "get_versioned", "put", "put_if", "exists", "size", "list", "delete"):
    setattr(LocalStore, name, counted(name))

from flows.cli import cli

cli(sys.argv[1:], standalone_mode=False)
with open("/proc/self/status") as status:
    peak_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
print(json.dumps({"seconds": time.time() - began_s, "peak_mib": peak_kib / 1024, **counts}))
"""


def grow(folder: Path, *, products: int = PRODUCTS, nights: int = NIGHTS) -> None:
    """Writes `catalog.parquet`, `changed.parquet`, the model `tiny`, and `store` without its summaries."""
    catalog = folder / "catalog.parquet"
    write_catalog(catalog, products, CATEGORIES)
    names = tuple(f"category-{number}" for number in range(CATEGORIES))
    model = tiny_model(categories=names, acceptance=1.0)
    model.write(folder / "tiny")
    store = open_store(folder / "store")
    settings = RunSettings(models={"main": f"tiny@{model.version}"})
    scopes: dict[ModelRole, ModelScope] = {"main": ModelScope(categories=frozenset(names))}
    plan = freeze_plan(store, "night-1", str(catalog), settings, scopes)
    for shard in range(len(plan.shards)):
        key = plan_key("night-1", shard)
        _put_part(store, "night-1", shard, read_parquet_bytes(store.get(key), PLAN, key), model.version)
    first = _manifest(plan, model.version)
    publish_manifest(store, first)
    few = read_parquet_bytes(store.get(plan_key("night-1", 0)), PLAN, "the plan").slice(0, CHANGED)
    for night in range(2, nights + 1):
        run_id = f"night-{night}"
        _put_part(store, run_id, 0, few, model.version)
        publish_manifest(store, replace(first, run_id=run_id, shards=1, commit=night))
    shutil.rmtree(folder / "store" / ".tmp" / "night-1")
    table = pq.read_table(catalog)
    titles = table["title"].to_pylist()
    for number in range(CHANGED):  # of one category each
        titles[number * (products // CHANGED) + number] += " (new)"
    position = table.column_names.index("title")
    pq.write_table(table.set_column(position, "title", pa.array(titles)), folder / "changed.parquet")


def _put_part(store: ObjectStore, run_id: str, shard: int, slots: pa.Table, version: str) -> None:
    """The metadata of slots that were all approved at their first attempt."""
    rows = slots.num_rows
    ids = pa.array([f"{shard:08x}{row:012x}" for row in range(rows)])
    columns: dict[str, Any] = {
        "image_id": ids,
        "image_uri": pc.binary_join_element_wise(
            "images", slots["category"], slots["sku"], pc.binary_join_element_wise(ids, "webp", "."), "/"
        ),
        "phash": pc.utf8_slice_codeunits(slots["row_fingerprint"], 0, 16),
        "sha256": slots["row_fingerprint"],
        **{name: slots[name] for name in ("sku", "image_index", "category", "row_fingerprint")},
    }
    same = {
        **{"run_id": run_id, "decision": APPROVED, "reasons": [], "width": 32, "height": 32, "bytes": 1000},
        **{"format": "webp", "model_name": "tiny", "model_version": version, "model_family": "dcgan"},
        **{"seed": 1, "attempt": 0, "batch_size": 8, "truncation": 1.0, "logit": 0.0, "p_real": 0.5},
        **{"threshold": 0.4, "fill_ratio": 0.3, "background_white": 0.9, "colour_delta_e": 3.0},
        **{"conditions": "{}", "condition_sha256": {}, "generated_at": datetime(2026, 1, 1, tzinfo=UTC)},
        **{"pipeline_version": "0.1.0", "digital_source_type": "x", "engine": "none"},
    }
    for field in IMAGES:
        if field.name not in columns:
            columns[field.name] = pa.repeat(pa.scalar(same.get(field.name), field.type), rows)
    store.put(part_key(run_id, shard), write_images(pa.table(columns).select(IMAGES.names)))


def _manifest(plan: FrozenPlan, version: str) -> Manifest:
    return Manifest(
        run_id=plan.run_id,
        pipeline_version="0.1.0",
        prefect_version="3",
        started_at="2026-01-01T00:00:00+00:00",
        finished_at="2026-01-01T00:01:00+00:00",
        catalog_uri=plan.catalog_uri,
        catalog_sha256=plan.catalog_sha256,
        settings=plan.settings.to_json(),
        model_name="tiny",
        model_version=version,
        plan_sha256=plan.sha256,
        shards=len(plan.shards),
        counts={**plan.counts, **dict.fromkeys(DECISIONS, 0), "approved": plan.counts["planned"]},
        categories={
            name: {"planned": 30, "approved": 20, "review": 5, "rejected": 5} for name in plan.categories
        },
        models={},
        commit=1,
        incomplete={},
    )


def night(folder: Path, catalog: str) -> dict[str, float]:
    """What one `toygan generate` costs, in a process of its own: seconds, MiB, and calls of the store."""
    command = ["generate", "--catalog", str(folder / catalog), "--output", str(folder / "store")]
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, *command, "--model", str(folder / "tiny"), "--format", "webp"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    print(child.stdout.rsplit("\n", 2)[0], flush=True)
    figures: dict[str, float] = json.loads(child.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        grow(folder)
        store = open_store(folder / "store")
        began_s = time.perf_counter()
        rebuild_nights(store, complete_open_runs(store))
        print(f"summaries made again: {time.perf_counter() - began_s:.1f} s", flush=True)
        for catalog in ("catalog.parquet", "changed.parquet"):
            figures = night(folder, catalog)
            requests = {key: int(each) for key, each in figures.items() if key not in ("seconds", "peak_mib")}
            print(f"{catalog}: {figures['seconds']:.1f} s, {figures['peak_mib']:.0f} MiB, ", end="")
            print(f"{sum(requests.values())} requests: {requests}", flush=True)


if __name__ == "__main__":
    main()
