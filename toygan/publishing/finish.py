"""Commits a run whose shards are done: its report, its manifest, and the live table."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version

import pyarrow as pa
import pyarrow.compute as pc

from catalog_schemas.images import APPROVED, DECISIONS, IMAGES
from catalog_schemas.runs import PLAN, Manifest
from catalog_schemas.validation import read_parquet_bytes
from toygan.artifact.files import ModelFiles
from toygan.artifact.load import credit_of
from toygan.conditions.condition_types import MAIN
from toygan.errors import BadInput
from toygan.generation.run import StartedRun
from toygan.planning.finished import Parts, read_manifest, read_part_at_hand
from toygan.planning.summaries import read_summaries
from toygan.publishing.commit import make_live, publish_manifest, publish_report, sweep, tally
from toygan.publishing.commit_log import Commits, read_commits, reserve_run
from toygan.publishing.contact_sheet import PhotosSoFar, contact_sheet
from toygan.publishing.summary import MOST_NAMED, RunSummary
from toygan.registry.models import resolve
from toygan.storage.keys import plan_key, report_key
from toygan.storage.store import ObjectStore


def finish_run(
    run: StartedRun, prefect_version: str, *, photos_so_far: PhotosSoFar | None = None
) -> RunSummary:
    """Writes the report, the manifest and the live table, in this order.

    If the run has a manifest already, only the live table is completed. A run without approved pictures is
    not a failure. A run without finite pictures is a failure, see RunSummary.check_finite.
    """
    store = run.store
    manifest = read_manifest(store, run.plan.run_id)
    parts = Parts(store, run.plan.run_id, manifest.shards if manifest else len(run.plan.shards))
    if manifest is None:
        commit, commits = reserve_run(store, run.plan.run_id, run.commits)
        manifest = _manifest(store, run, parts, commit, prefect_version)
        html = contact_sheet(
            store,
            manifest,
            parts,
            is_new=True,
            # If the run was continued, its time is not that of all its pictures.
            with_rate=run.is_whole,
            credit=run.credit,
            photos_so_far=photos_so_far,
        )
        publish_report(store, run.plan.run_id, html)
        publish_manifest(store, manifest)
        summaries = make_live(store, manifest, parts, commits)
    elif manifest.run_id in (read_commits(store) or Commits()).open:
        summaries = make_live(store, manifest, parts)
    else:
        summaries = read_summaries(store)
    sweep(store, run.plan.run_id)
    return RunSummary(
        manifest=manifest,
        store=store.uri,
        elapsed_s=(datetime.now(UTC) - run.started_at).total_seconds(),
        parts=parts,
        summaries=summaries,
    )


def rewrite_report(store: ObjectStore, run_id: str, *, photos_so_far: PhotosSoFar | None = None) -> str:
    """Writes the contact sheet of a finished run again; returns its URI. Raises BadInput for other runs."""
    manifest = read_manifest(store, run_id)
    if manifest is None:
        raise BadInput(f"{store.uri} has no finished run {run_id}; finished runs have a file under runs/")
    credit = credit_of(_models_at_hand(store, manifest))
    html = contact_sheet(
        store,
        manifest,
        _parts_at_hand(store, manifest),
        is_new=False,
        with_rate=False,
        credit=credit,
        photos_so_far=photos_so_far,
    )
    publish_report(store, run_id, html)
    return f"{store.uri}/{report_key(run_id)}"


def _parts_at_hand(store: ObjectStore, manifest: Manifest) -> Iterator[pa.Table]:
    """Yields the metadata of a run; an empty table for a part that cannot be read."""
    for shard in range(manifest.shards):
        part = read_part_at_hand(store, manifest.run_id, shard)
        yield IMAGES.empty_table() if part is None else part


def _models_at_hand(store: ObjectStore, manifest: Manifest) -> Iterator[ModelFiles]:
    for name in manifest.all_models:
        with suppress(BadInput):  # the model was given as a folder, or is missing or damaged
            yield resolve(name, store)


def _manifest(
    store: ObjectStore, run: StartedRun, parts: Parts, commit: int, prefect_version: str
) -> Manifest:
    plan = run.plan
    model_name, _, model_version = plan.settings.models[MAIN].rpartition("@")
    outcome = tally(parts)
    wanted = sum(plan.counts[name] for name in ("unchanged", "exhausted", "deferred", "planned"))
    # If every product wants one picture, no product can have some but not all of its pictures.
    incomplete = _incomplete(store, plan.run_id, parts) if wanted > plan.counts["products"] else {}
    none = dict.fromkeys(DECISIONS, 0)
    return Manifest(
        run_id=plan.run_id,
        pipeline_version=version("toygan"),
        prefect_version=prefect_version,
        started_at=run.started_at.isoformat(),
        finished_at=datetime.now(UTC).isoformat(),
        catalog_uri=plan.catalog_uri,
        catalog_sha256=plan.catalog_sha256,
        settings=plan.settings.to_json(),
        model_name=model_name,
        model_version=model_version,
        plan_sha256=plan.sha256,
        shards=len(plan.shards),
        counts={**plan.counts, **outcome.counts, "incomplete": len(incomplete)},
        categories={
            name: {**counts, **outcome.categories.get(name, none)} for name, counts in plan.categories.items()
        },
        models=outcome.models,
        commit=commit,
        incomplete=dict(sorted(incomplete.items())[:MOST_NAMED]),
    )


def _incomplete(store: ObjectStore, run_id: str, parts: Iterable[pa.Table]) -> dict[str, tuple[int, int]]:
    """Returns, for each product with some but not all of its pictures, the numbers (present, wanted).

    Only products for which the run generated pictures are included.
    """
    found = {}
    for shard, part in enumerate(parts):
        key = plan_key(run_id, shard)
        slots = read_parquet_bytes(store.get(key), PLAN, key, ("sku", "images_wanted", "images_kept"))
        several = (
            slots.filter(pc.greater(slots["images_wanted"], 1)).group_by(slots.column_names).aggregate([])
        )
        if not several.num_rows:
            continue
        approved = Counter(part.filter(pc.equal(part["decision"], APPROVED))["sku"].to_pylist())
        for sku, want, kept in zip(*several.to_pydict().values(), strict=True):
            if 0 < (have := kept + approved[sku]) < want:
                found[sku] = (have, want)
    return found
