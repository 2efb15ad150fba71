"""A request for a run, and the models and settings that it is resolved to."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import get_args

from toygan.artifact.config import config_of
from toygan.artifact.files import ModelFiles
from toygan.conditions.condition_types import MAIN, ModelRole
from toygan.device import pick_device
from toygan.errors import BadInput, ModelError, ObjectNotFound
from toygan.generation.worker_spec import ModelPlace, WorkerSpec, scope_of
from toygan.images import ImageFormat
from toygan.planning.finished import read_manifest
from toygan.planning.plan import (
    FrozenPlan,
    Mode,
    RunSettings,
    Scopes,
    check_plan,
)
from toygan.registry.aliases import Alias, read_aliases
from toygan.registry.hub import hub_reference, pinned
from toygan.registry.models import find_default, folder_of, is_bundled, resolve, role_of
from toygan.storage.keys import plan_manifest_key
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectStore

# the result of the last check_request, until resolve_run takes it
_checked: "list[tuple[RunRequest, ResolvedRun]]" = []


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """The request of a person or a schedule."""

    catalog: str  # the URI of a catalog, see toygan.planning.catalog.open_catalog
    output: str  # the URI of a store
    run_id: str
    # References of models, see toygan.registry.models.resolve. For missing roles, see find_default there.
    models: Mapping[ModelRole, str] = field(default_factory=dict)
    images_per_product: int = 1
    categories: tuple[str, ...] = ()  # if empty, all categories of the models
    # maps column names of the contract to those of the file
    columns: Mapping[str, str] = field(default_factory=dict)
    mode: Mode = "missing"
    refresh_share: float = 1.0  # the largest share of the live pictures that the mode refresh replaces
    retire: float | None = None  # the largest share of products that may be retired; None if none are retired
    limit: int | None = None  # only the first `limit` good products of the catalog are used
    image_format: ImageFormat = "webp"
    device: str = "auto"
    batch_size: int | None = None  # None if it is chosen for model and device


def new_run_id() -> str:
    """Returns a new id that sorts by time; ids of the same second differ in their last six digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def check_request(request: RunRequest, *, is_new: bool = False) -> None:
    """Raises BadInput if store, model, settings, device or run id cannot be used; writes nothing.

    The caller learns quickly, before a flow or a server starts, whether the request is usable. The next call
    of resolve_run in this process returns the same ResolvedRun, so that nothing is looked up twice. `is_new`
    is as for resolve_run.
    """
    ready = _resolve(request, is_new=is_new)
    check_plan(
        ready.store, request.run_id, request.catalog, ready.settings, ready.scopes, is_new=ready.is_new
    )
    _checked[:] = [(request, ready)]


@dataclass(frozen=True, kw_only=True)
class ResolvedRun:
    """The values that a request is resolved to. The run uses them; nothing is looked up again."""

    run_id: str
    is_new: bool  # whether the store has nothing of this run id
    catalog: str  # its URI
    store: ObjectStore
    models: Mapping[ModelRole, ModelFiles]
    scopes: Scopes
    settings: RunSettings
    worker_spec: WorkerSpec


def resolve_run(request: RunRequest, *, is_new: bool = False) -> ResolvedRun:
    """Finds the store and the models of a request and checks its settings; writes nothing.

    With `is_new` the caller knows that the store has nothing of this run id. Raises a subclass of BadInput if
    store, model, settings or device cannot be used.
    """
    while _checked:
        checked, ready = _checked.pop()
        if checked == request:
            return ready
    return _resolve(request, is_new=is_new)


def _resolve(request: RunRequest, *, is_new: bool) -> ResolvedRun:
    if request.retire is not None and not 0 <= request.retire <= 1:
        raise BadInput(f"--retire is {request.retire:g}; it must be a share of the products, from 0 to 1")
    store = open_store(request.output)
    aliases = read_aliases(store)
    earlier = None if is_new else _settings_of_earlier_start(store, request.run_id)
    models: dict[ModelRole, ModelFiles] = {}
    for role in get_args(ModelRole):
        # The bundled models share their categories. Beside a shop's own main model they are not used, because
        # it has other categories.
        may_be_bundled = not models or is_bundled(models[MAIN])
        reference = request.models.get(role)
        found = _choose_model(store, aliases, role, reference, earlier, may_be_bundled=may_be_bundled)
        if found is not None:
            models[role] = found
    names = {role: f"{model.name}@{model.version}" for role, model in models.items()}
    settings = RunSettings(
        models=names,
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
        role: ModelPlace(reference=_lasting(request.models.get(role)) or names[role], version=model.version)
        for role, model in models.items()
    }
    worker_spec = WorkerSpec(
        store=store.uri, models=places, device=request.device, batch_size=request.batch_size
    )
    pick_device(request.device)
    return ResolvedRun(
        run_id=request.run_id,
        is_new=earlier is None,
        catalog=request.catalog,
        store=store,
        models=models,
        scopes={role: scope_of(model) for role, model in models.items()},
        settings=settings,
        worker_spec=worker_spec,
    )


def _choose_model(
    store: ObjectStore,
    aliases: Mapping[str, Alias],
    role: ModelRole,
    reference: str | None,
    earlier: RunSettings | None,
    *,
    may_be_bundled: bool,
) -> ModelFiles | None:
    """Returns the model for a role. Returns None if there is no such model, since only the main model is
    required.

    A continued run keeps its models, even if others have been promoted since.
    """
    if reference is None and earlier is not None:
        reference = earlier.models.get(role)
        if reference is None:
            return None
    default = None
    if reference is None:
        default = find_default(store, role, may_be_bundled=may_be_bundled, aliases=aliases)
        if role != MAIN:
            return default
    model = default or resolve(reference, store)
    needs = role_of(config_of(model))
    if needs != role:
        takes = "takes no image" if needs == MAIN else f"takes a {needs}; give the model by --{needs}-model"
        option = "--model" if role == MAIN else f"--{role}-model"
        raise ModelError(f"{model.name}@{model.version} cannot be the {option}, because it {takes}")
    return model


def _lasting(reference: str | None) -> str | None:
    """Returns a reference that will still name the same model later, for a folder or a model on the Hub.

    Returns None for other models.
    """
    if reference and (on_hub := hub_reference(reference)):
        return pinned(on_hub)
    folder = folder_of(reference) if reference else None
    return str(folder.resolve()) if folder else None


def _settings_of_earlier_start(store: ObjectStore, run_id: str) -> RunSettings | None:
    manifest = read_manifest(store, run_id)
    if manifest is not None:
        return RunSettings.from_json(manifest.settings)
    key = plan_manifest_key(run_id)
    try:
        return FrozenPlan.from_json(store.get(key), key).settings
    except ObjectNotFound:
        return None
