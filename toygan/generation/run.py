"""Starts a run and computes its shards. The flow calls these steps in order."""

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from catalog_schemas.images import IMAGES, write_images
from toygan.artifact.load import credit_of
from toygan.conditions.condition_types import ImageCondition
from toygan.generation.request import ResolvedRun
from toygan.generation.shard import compute_shard
from toygan.generation.worker_spec import WorkerSpec, engine_for
from toygan.images import ImageFormat
from toygan.planning.plan import (
    FrozenPlan,
    Slot,
    freeze_plan,
    load_shard,
)
from toygan.planning.summaries import Summaries
from toygan.storage.keys import metadata_prefix, part_key
from toygan.storage.open_store import open_store
from toygan.storage.store import PARQUET, ObjectStore
from toygan.storage.update import Stored


@dataclass(frozen=True, kw_only=True)
class StartedRun:
    """A run whose plan is frozen."""

    plan: FrozenPlan
    store: ObjectStore
    worker_spec: WorkerSpec
    pending: tuple[int, ...]  # shards that are not done yet
    is_whole: bool  # whether no shard was done before this start
    started_at: datetime
    commits: Stored | None  # state/commits.json as it was before the plan, if it was read
    credit: str | None  # the attribution that the licences of the training pictures demand


def start_run(resolved: ResolvedRun, summaries: Summaries | None = None) -> StartedRun:
    """Checks the catalog and freezes the plan, or continues with the plan of an earlier start.

    `summaries` are those of the store, if they have been read before. Raises a subclass of BadInput for a
    request that cannot be fulfilled; then nothing has been written.
    """
    started_at = datetime.now(UTC)
    store = resolved.store
    plan = freeze_plan(
        store,
        resolved.run_id,
        resolved.catalog,
        resolved.settings,
        resolved.scopes,
        is_new=resolved.is_new,
        summaries=summaries,
    )
    shards = len(plan.shards)
    pending = range(shards) if resolved.is_new else pending_shards(store, resolved.run_id, shards)
    return StartedRun(
        plan=plan,
        store=store,
        worker_spec=resolved.worker_spec,
        pending=tuple(pending),
        is_whole=len(pending) == shards,
        started_at=started_at,
        commits=summaries.commits if summaries else None,
        credit=credit_of(resolved.models.values()),
    )


def pending_shards(store: ObjectStore, run_id: str, shards: int) -> list[int]:
    """Returns the numbers of the shards without a metadata part, which are still to be computed."""
    if not shards:
        return []
    done = {info.key for info in store.list(metadata_prefix(run_id))}
    return [shard for shard in range(shards) if part_key(run_id, shard) not in done]


def run_shard(
    worker_spec: WorkerSpec,
    run_id: str,
    shard: int,
    image_format: ImageFormat,
    digest: str | None = None,
) -> Mapping[str, Mapping[str, int]]:
    """Computes and commits one shard; returns its candidates by category and decision.

    Raises what load_shard raises. `digest` is the sha256 that the plan gives the shard.
    """
    store = open_store(worker_spec.store)
    by_model: dict[ImageCondition | None, list[Slot]] = {}
    for slot in load_shard(store, run_id, shard, digest):
        by_model.setdefault(slot.image_condition, []).append(slot)

    def compute(image_condition: ImageCondition | None) -> list[dict[str, Any]]:
        return compute_shard(
            by_model[image_condition],
            engine=engine_for(worker_spec, image_condition),
            store=store,
            run_id=run_id,
            image_format=image_format,
        )

    # At the same time, so that the device has work while the last pictures of one model are checked.
    with ThreadPoolExecutor(len(by_model)) as threads:
        futures = [threads.submit(copy_context().run, compute, condition) for condition in by_model]
        rows = [row for future in futures for row in future.result()]
    table = pa.Table.from_pylist(rows, schema=IMAGES)
    # The metadata comes after all pictures. It marks the shard as done.
    store.put(part_key(run_id, shard), write_images(table), content_type=PARQUET)
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        counts.setdefault(row["category"], Counter())[row["decision"]] += 1
    return counts
