"""The commit of a run, in this order: pictures, the parts, the report, the manifest, the live table.

Whatever is interrupted leaves a store in which everything that is named exists. Doing it again changes
nothing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from catalog_schemas.images import (
    APPROVED,
    CURRENT,
    DECISIONS,
    IMAGES,
    read_current,
    write_current,
    write_images,
)
from catalog_schemas.runs import Manifest
from toygan.planning.finished import read_manifest, read_part
from toygan.storage.keys import CURRENT_KEY, manifest_key, part_key, report_key, tmp_prefix
from toygan.storage.store import PARQUET, ObjectStore
from toygan.storage.update import update


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How many candidates of a run were approved, sent to review and rejected."""

    counts: Mapping[str, int]
    categories: Mapping[str, Mapping[str, int]]
    models: Mapping[str, Mapping[str, int]]  # by NAME@VERSION


def publish_part(store: ObjectStore, run_id: str, shard: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """The metadata of a shard, after all its pictures: from now on the shard is done."""
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=IMAGES)
    store.put(part_key(run_id, shard), write_images(table), content_type=PARQUET)


def pending_shards(store: ObjectStore, run_id: str, shards: int) -> list[int]:
    """Shards that have no part yet. An interrupted one is computed again whole, with the same result."""
    return [shard for shard in range(shards) if not store.exists(part_key(run_id, shard))]


def tally(parts: Iterable[pa.Table]) -> Outcome:
    """Counts the candidates of a run by decision, one part at a time."""
    by_category: dict[str, Counter[str]] = {}
    by_model: dict[str, Counter[str]] = {}
    keys = ["category", "model_name", "model_version", "decision"]
    for part in parts:
        for group in part.group_by(keys).aggregate([("image_id", "count")]).to_pylist():
            model = f"{group['model_name']}@{group['model_version']}"
            for counters, name in ((by_category, group["category"]), (by_model, model)):
                counters.setdefault(name, Counter())[group["decision"]] += group["image_id_count"]
    categories, models = _by_decision(by_category), _by_decision(by_model)
    totals = {each: sum(counts[each] for counts in categories.values()) for each in DECISIONS}
    return Outcome(counts=totals, categories=categories, models=models)


def _by_decision(counters: Mapping[str, Counter[str]]) -> dict[str, dict[str, int]]:
    return {name: {each: counts[each] for each in DECISIONS} for name, counts in counters.items()}


def publish_report(store: ObjectStore, run_id: str, html: str) -> None:
    store.put(report_key(run_id), html.encode(), content_type="text/html; charset=utf-8")


def publish_manifest(store: ObjectStore, manifest: Manifest) -> None:
    """The commit of the run: what it names is whole from here on."""
    store.put(manifest_key(manifest.run_id), manifest.to_json().encode(), content_type="application/json")


def update_current(store: ObjectStore, manifest: Manifest) -> None:
    """Makes the approved pictures of a finished run live; of several runs the one that finished last wins.

    So it can be done again at any time: a picture that a later run made live stays. Nothing is written where
    nothing changes, and of runs that finish at the same moment none overwrites what the other did.
    """
    approved = [
        part.filter(pc.equal(part["decision"], APPROVED)).select(CURRENT.names)
        for part in (read_part(store, manifest.run_id, shard) for shard in range(manifest.shards))
    ]
    fresh = pa.concat_tables(approved) if approved else CURRENT.empty_table().select(CURRENT.names)
    if not fresh.num_rows:
        return

    def merge(before: bytes | None) -> bytes:
        live = CURRENT.empty_table() if before is None else read_current(before)
        return write_current(_merge(store, manifest, fresh, live))

    update(store, CURRENT_KEY, merge, content_type=PARQUET)


def _merge(store: ObjectStore, manifest: Manifest, fresh: pa.Table, live: pa.Table) -> pa.Table:
    """The live table with the pictures of a run in it, but for those that a later run has replaced."""
    newer = _runs_finished_after(store, manifest, set(live["run_id"].unique().to_pylist()))
    is_newer = pc.is_in(live["run_id"], value_set=pa.array(sorted(newer), pa.string()))
    keys = ["sku", "image_index"]
    won = fresh.join(live.filter(is_newer).select(keys), keys, join_type="left anti")
    kept = live.join(won.select(keys), keys, join_type="left anti")
    merged = pa.concat_tables(
        [kept.select(CURRENT.names), won.select(CURRENT.names)], promote_options="permissive"
    )
    return merged.cast(CURRENT)


def _runs_finished_after(store: ObjectStore, manifest: Manifest, run_ids: set[str]) -> set[str]:
    mine = (manifest.finished_at, manifest.run_id)
    newer = set()
    for run_id in run_ids - {manifest.run_id}:
        other = read_manifest(store, run_id)
        if other is not None and (other.finished_at, other.run_id) > mine:
            newer.add(run_id)
    return newer


def sweep(store: ObjectStore, run_id: str) -> None:
    """Removes what a run left unfinished, its frozen plan included: only after its manifest is written."""
    for found in list(store.list(tmp_prefix(run_id))):
        store.delete(found.key)
