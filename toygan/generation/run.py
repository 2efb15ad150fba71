"""Runs the pipeline from a request to the commit. The flow calls these steps in order and adds nothing."""

import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version

import pyarrow as pa
import pyarrow.compute as pc

from catalog_schemas.images import APPROVED, DECISIONS
from catalog_schemas.runs import PLAN, Manifest
from catalog_schemas.validation import read_parquet_bytes
from toygan.conditions.condition_types import ImageCondition
from toygan.errors import BadInput, ModelError, ObjectNotFound, RunFailed
from toygan.generation.contact_sheet import contact_sheet
from toygan.generation.model import read_config
from toygan.generation.publish import (
    NOT_FINITE,
    complete_open_runs,
    make_live,
    pending_shards,
    publish_manifest,
    publish_part,
    publish_report,
    sweep,
    tally,
)
from toygan.generation.shard import compute_shard
from toygan.generation.summary import MOST_NAMED
from toygan.generation.summary import RunSummary as RunSummary
from toygan.generation.worker_spec import ModelPlace, engine_for, scope_of
from toygan.generation.worker_spec import WorkerSpec as WorkerSpec
from toygan.images import ImageFormat
from toygan.planning.commits import Commits, read_commits, reserve
from toygan.planning.finished import Parts, read_manifest
from toygan.planning.plan import (
    FrozenPlan,
    Mode,
    RunSettings,
    Scopes,
    check_plan,
    freeze_plan,
    load_shard,
)
from toygan.registry import ModelFiles, find_default, folder_of, is_bundled, required_condition_of, resolve
from toygan.storage.keys import plan_key, plan_manifest_key, report_key
from toygan.storage.store import ObjectStore, open_store


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """The request of a person or a schedule."""

    catalog: str  # URI of a file, see toygan.planning.catalog.open_catalog
    output: str  # URI of a store
    run_id: str
    model: str | None = None  # see toygan.registry.resolve
    sketch_model: str | None = None  # None: see toygan.registry.find_default
    layout_model: str | None = None
    images_per_product: int = 1
    categories: tuple[str, ...] = ()  # empty: all categories of the model
    columns: Mapping[str, str] = field(default_factory=dict)  # of the schema, to those of the catalog file
    mode: Mode = "missing"
    refresh_share: float = 1.0  # the largest share of the live pictures that the mode refresh replaces
    limit: int | None = None  # number of good products, in catalog order
    image_format: ImageFormat = "webp"
    device: str = "auto"
    batch_size: int | None = None  # None: chosen for model and device


@dataclass(frozen=True, kw_only=True)
class StartedRun:
    """A run whose plan is frozen."""

    plan: FrozenPlan
    worker_spec: WorkerSpec
    pending: tuple[int, ...]  # shards that are not done yet
    started_at: datetime
    credit: str | None  # the attribution that the licences of the training pictures demand


def new_run_id() -> str:
    """Returns a new id that sorts by time; ids of the same second differ in their last six digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def check_request(request: RunRequest) -> None:
    """Raises BadInput if store, model, settings, device or run id cannot be used; writes nothing.

    It gives a quick answer before a flow or a server starts. start_run makes the same checks again.
    """
    ready = _get_ready(request)
    check_plan(ready.store, request.run_id, request.catalog, ready.settings, ready.scopes)


def start_run(request: RunRequest) -> StartedRun:
    """Checks model and catalog and freezes the plan, or continues with the plan of an earlier start.

    Raises a subclass of BadInput before anything is written.
    """
    started_at = datetime.now(UTC)
    ready = _get_ready(request)
    store = ready.store
    complete_open_runs(store)
    plan = freeze_plan(store, request.run_id, request.catalog, ready.settings, ready.scopes)
    pending = pending_shards(store, request.run_id, len(plan.shards))
    return StartedRun(
        plan=plan,
        worker_spec=ready.worker_spec,
        pending=tuple(pending),
        started_at=started_at,
        credit=_credit(ready.models.values()),
    )


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """Everything that a run needs, except the catalog."""

    store: ObjectStore
    models: Mapping[ImageCondition | None, ModelFiles]
    scopes: Scopes
    settings: RunSettings
    worker_spec: WorkerSpec


def _get_ready(request: RunRequest) -> _Ready:
    store = open_store(request.output)
    earlier = _settings_of_earlier_start(store, request.run_id)
    wanted: dict[ImageCondition | None, str | None] = {
        None: request.model,
        "sketch": request.sketch_model,
        "layout": request.layout_model,
    }
    models: dict[ImageCondition | None, ModelFiles] = {}
    may_be_bundled = True
    for kind, reference in wanted.items():
        found = _choose_model(store, kind, reference, earlier, may_be_bundled=may_be_bundled)
        if found is not None:
            models[kind] = found
        if kind is None:
            # The bundled models belong together: they do not fit the categories of another shop's model.
            may_be_bundled = is_bundled(models[None])
    names = {kind: f"{model.name}@{model.version}" for kind, model in models.items()}
    settings = RunSettings(
        model_name=models[None].name,
        model_version=models[None].version,
        sketch_model=names.get("sketch"),
        layout_model=names.get("layout"),
        images_per_product=request.images_per_product,
        categories=request.categories,
        columns=request.columns,
        mode=request.mode,
        refresh_share=request.refresh_share,
        limit=request.limit,
        format=request.image_format,
        batch_size=request.batch_size,
    )
    places = {
        kind: ModelPlace(reference=_lasting(wanted[kind]) or names[kind], version=model.version)
        for kind, model in models.items()
    }
    worker_spec = WorkerSpec(
        store=store.uri,
        model=places[None],
        sketch_model=places.get("sketch"),
        layout_model=places.get("layout"),
        device=request.device,
        batch_size=request.batch_size,
    )
    scopes = {kind: scope_of(model) for kind, model in models.items()}
    # Building the networks shows whether the weights fit. The other models are built when they are needed.
    engine_for(worker_spec)
    return _Ready(store=store, models=models, scopes=scopes, settings=settings, worker_spec=worker_spec)


def _choose_model(
    store: ObjectStore,
    kind: ImageCondition | None,
    reference: str | None,
    earlier: RunSettings | None,
    *,
    may_be_bundled: bool,
) -> ModelFiles | None:
    """Returns the model for an image condition; None if there is none, because it is optional.

    A continued run keeps its models, even if others have been promoted since.
    """
    if reference is None and earlier is not None:
        reference = earlier.models.get(kind)
        if reference is None:
            return None
    if reference is None and kind is not None:
        return find_default(store, kind, may_be_bundled=may_be_bundled)
    model = resolve(reference, store)
    needs = required_condition_of(model)
    if needs != kind:
        takes = f"takes a {needs}, give it as --{needs}-model" if needs else "takes no image"
        option = f"--{kind}-model" if kind else "--model"
        raise ModelError(f"{model.name}@{model.version} cannot be the {option}: it {takes}")
    return model


def _lasting(reference: str | None) -> str | None:
    """Returns the absolute path of a model folder, valid in any process; None if it is no folder."""
    folder = folder_of(reference) if reference else None
    return str(folder.resolve()) if folder else None


def run_shard(
    worker_spec: WorkerSpec, run_id: str, shard: int, image_format: ImageFormat
) -> Mapping[str, int]:
    """Computes and commits one shard; returns its candidates by decision."""
    store = open_store(worker_spec.store)
    slots = load_shard(store, run_id, shard)
    rows = compute_shard(
        slots,
        engine=engine_for(worker_spec, slots[0].image_condition),
        store=store,
        run_id=run_id,
        image_format=image_format,
    )
    publish_part(store, run_id, shard, rows)
    return Counter(row["decision"] for row in rows)


def finish_run(run: StartedRun, prefect_version: str) -> RunSummary:
    """Writes report, manifest, live table, in this order; for a finished run at most the live table.

    A run without approved pictures is no failure. Raises RunFailed if no generated picture was finite.
    """
    store = open_store(run.worker_spec.store)
    manifest = read_manifest(store, run.plan.run_id)
    parts = Parts(store, run.plan.run_id, manifest.shards if manifest else len(run.plan.shards))
    if manifest is None:
        commit = reserve(store, run.plan.run_id)
        manifest = _manifest(store, run, parts, commit, prefect_version)
        # This process did only a part of a continued run, so the report shows no rate.
        whole = len(run.pending) == len(run.plan.shards)
        html = contact_sheet(store, manifest, parts, plan=run.plan, tell_rate=whole, credit=run.credit)
        publish_report(store, run.plan.run_id, html)
        publish_manifest(store, manifest)
        make_live(store, manifest, parts)
    elif manifest.run_id in (read_commits(store) or Commits()).open:
        make_live(store, manifest, parts)
    sweep(store, run.plan.run_id)
    summary = RunSummary(
        manifest=manifest,
        store=store.uri,
        elapsed_s=(datetime.now(UTC) - run.started_at).total_seconds(),
    )
    candidates = sum(manifest.counts[decision] for decision in DECISIONS)
    if candidates and manifest.counts[NOT_FINITE] == candidates:
        raise RunFailed(
            f"run {manifest.run_id}: {candidates:,} pictures were generated and none is finite; the model "
            f"or the device is broken, see {summary.report_uri}"
        )
    return summary


def rewrite_report(store: ObjectStore, run_id: str) -> str:
    """Writes the contact sheet of a finished run again; returns its URI. Raises BadInput for other runs."""
    manifest = read_manifest(store, run_id)
    if manifest is None:
        raise BadInput(f"{store.uri} has no finished run {run_id}; finished runs have a file under runs/")
    credit = _credit(_models_at_hand(store, manifest))
    parts = Parts(store, run_id, manifest.shards)
    html = contact_sheet(store, manifest, parts, plan=None, tell_rate=False, credit=credit)
    publish_report(store, run_id, html)
    return f"{store.uri}/{report_key(run_id)}"


def _models_at_hand(store: ObjectStore, manifest: Manifest) -> Iterator[ModelFiles]:
    for name in manifest.all_models:
        with suppress(BadInput):  # the model came from a folder, or is missing or damaged
            yield resolve(name, store)


def _credit(models: Iterable[ModelFiles]) -> str | None:
    """Returns the attributions that the licences of the models' training pictures demand."""
    found = [credit for model in models if (credit := read_config(model).get("credit"))]
    return " ".join(dict.fromkeys(found)) or None


def _manifest(
    store: ObjectStore, run: StartedRun, parts: Parts, commit: int, prefect_version: str
) -> Manifest:
    plan = run.plan
    outcome = tally(parts)
    wanted = sum(plan.counts[name] for name in ("unchanged", "exhausted", "deferred", "planned"))
    # If each product wants one picture, no product can have only some of its pictures.
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
        model_name=plan.settings.model_name,
        model_version=plan.settings.model_version,
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
    """Returns (present, wanted) pictures of the tried products that have some but not all pictures."""
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


def _settings_of_earlier_start(store: ObjectStore, run_id: str) -> RunSettings | None:
    manifest = read_manifest(store, run_id)
    if manifest is not None:
        return RunSettings.from_json(manifest.settings)
    key = plan_manifest_key(run_id)
    try:
        return FrozenPlan.from_json(store.get(key), key).settings
    except ObjectNotFound:
        return None
