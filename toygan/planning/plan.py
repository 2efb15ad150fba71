"""Freezes the plan of a run: good rows of the catalog become slots, and slots become shards.

A slot is one wanted picture, (sku, image index). The plan is stored under `.tmp/<run_id>/`. Its `plan.json`
is written last, and from then on the plan of this run id does not change.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from typing import Any, Self

from catalog_schemas.products import MAX_IMAGES_WANTED
from catalog_schemas.runs import PLAN_COUNTS, Manifest, check_counts, read_plan
from catalog_schemas.validation import TableError, read_json_object
from toygan.artifact.scope import ModelScope
from toygan.conditions.condition_types import ImageCondition
from toygan.conditions.main_colour import ColourSource
from toygan.errors import BadInput, Conflict, ObjectNotFound, RunConflict
from toygan.parallel import reading_pool
from toygan.planning.catalog import Catalog, check_catalog, open_catalog
from toygan.planning.condition_files import Scopes
from toygan.planning.finished import read_manifest
from toygan.planning.planner import Planner
from toygan.planning.settings import Mode, RunSettings
from toygan.planning.summaries import Summaries, read_summaries
from toygan.planning.writer import Shard
from toygan.storage.keys import plan_key, plan_manifest_key, planning_key
from toygan.storage.store import ObjectStore

__all__ = [
    "FrozenPlan",
    "Mode",
    "ModelScope",
    "RunSettings",
    "Scopes",
    "Shard",
    "Slot",
    "check_catalog",
    "check_plan",
    "freeze_plan",
    "load_shard",
]

_SCHEMA = "plan/5"


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """One picture to make. Its siblings are the other live pictures and the rejected pictures of its product.

    `colour` and `colour_hex` are name and value of the main colour, see `toygan.conditions.main_colour`.
    """

    row: int
    sku: str
    image_index: int
    first_attempt: int
    attempts: int  # the number of attempts that the run may make, at least 1
    review_p_real: float | None  # the score of the best candidate in review/; None if there is no candidate
    category: str
    title: str
    description: str | None
    language: str
    colour: str | None
    colour_hex: str | None
    colour_source: ColourSource | None  # the column that gives the main colour; None if the colour is unknown
    finish: str | None
    attributes: Mapping[str, str | None]
    condition_sha256: Mapping[str, str]
    image_condition: ImageCondition | None  # the type of image that the model takes
    row_fingerprint: str
    sibling_phashes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FrozenPlan:
    """The plan of a run without its slots, which load_shard reads.

    `counts` has products (good rows of the run) and rejected_rows (distinct rows of the catalog that were set
    aside). Every slot counts as one of: unchanged (its picture is live already), exhausted (its attempts are
    used up), deferred (to the next run, because `verify --prune` is removing its files) or planned.
    `categories` has all counts except rejected_rows by category.
    """

    run_id: str
    catalog_uri: str
    catalog_sha256: str
    settings: RunSettings
    shards: tuple[Shard, ...]
    counts: Mapping[str, int]
    categories: Mapping[str, Mapping[str, int]]

    @property
    def sha256(self) -> str:
        """The digest of the plan. It covers every slot, because the plan contains the shards' digests."""
        return sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Returns the plan as canonical JSON."""
        content = {
            "schema": _SCHEMA,
            "run_id": self.run_id,
            "catalog_uri": self.catalog_uri,
            "catalog_sha256": self.catalog_sha256,
            "settings": self.settings.to_json(),
            "shards": [asdict(shard) for shard in self.shards],
            "counts": dict(self.counts),
            "categories": {name: dict(counts) for name, counts in self.categories.items()},
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Self:
        """Parses the output of to_json; raises BadInput for anything else."""
        try:
            content = read_json_object(text, where)
            if content.pop("schema") != _SCHEMA:
                raise ValueError("another schema")
            content["settings"] = RunSettings.from_json(content["settings"])
            content["shards"] = tuple(
                Shard(**shard | {"categories": tuple(shard["categories"])}) for shard in content["shards"]
            )
            check_counts(content["counts"], PLAN_COUNTS, where, "counts")
            for name, counts in dict(content["categories"]).items():
                check_counts(counts, ("planned",), where, f"categories.{name}")
            return cls(**content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(
                f"{where}: not a plan of the schema {_SCHEMA} ({error}); use another run id"
            ) from error


def freeze_plan(
    store: ObjectStore,
    run_id: str,
    catalog_uri: str,
    settings: RunSettings,
    scopes: Scopes,
    *,
    shard_size: int = 512,
    is_new: bool = False,
    summaries: Summaries | None = None,
) -> FrozenPlan:
    """Plans a run, or loads the plan if this run id has been planned before.

    The plan contains only slots that a good row of the catalog asks for. The mode selects among them:

    - `missing`: slots without a live picture of the row's fingerprint.
    - `refresh`: also slots with a live picture by another model than the product's current one; at most the
      share `refresh_share` of all live pictures.
    - `retry`: the slots of `missing`, and also exhausted slots, which the two modes above leave out.
    - `all`: every slot.

    With `is_new` the caller knows that the store has nothing of this run id. `summaries` are those of the
    store, if they have been read before. `scopes` gives the products that each of the run's models supports.
    A product with a photo, else one with a layout, else one with a sketch, goes to the model for that
    condition if there is one, and the file is kept in the store. Rows with a category that no model has, or
    with an unusable condition file, are set aside. A shard has at most `shard_size` slots, of one category
    and model or of several that have few slots each. The plan of a finished and swept run has no shards.

    If another process freezes a plan of this run id at the same time, its plan is loaded. Raises RunConflict
    if the run id was planned or finished with another catalog or other settings, or is being planned. Raises
    CatalogError if the catalog or all of its rows are unusable. Raises BadInput for categories in the
    settings that no model has. In these cases nothing has been written.
    """
    if shard_size < MAX_IMAGES_WANTED:
        raise BadInput(f"a shard of {shard_size} slots cannot hold a product; it needs {MAX_IMAGES_WANTED}")
    _check_categories(settings, scopes)
    try:
        return _freeze(store, run_id, catalog_uri, settings, scopes, shard_size, is_new, summaries)
    except Conflict as error:
        with open_catalog(catalog_uri, settings.columns) as catalog:
            rival = _find_earlier(store, run_id, catalog, settings)
        if rival is None:
            raise RunConflict(
                f"another process is planning the run id {run_id} at this moment; run again when it has "
                "planned, or use another run id"
            ) from error
        return rival


def _freeze(
    store: ObjectStore,
    run_id: str,
    catalog_uri: str,
    settings: RunSettings,
    scopes: Scopes,
    shard_size: int,
    is_new: bool,
    summaries: Summaries | None,
) -> FrozenPlan:
    """Does what freeze_plan does. Raises Conflict if another process plans the run id at the same time."""
    with (
        _without_mark_if_refused(store, run_id),
        open_catalog(catalog_uri, settings.columns) as catalog,
        reading_pool(catalog_uri, store.uri) as pool,
    ):
        if not is_new and (earlier := _find_earlier(store, run_id, catalog, settings)) is not None:
            return earlier
        summaries = summaries or read_summaries(store)
        planner = Planner(store, run_id, settings, scopes, shard_size, pool, summaries)
        for checked in catalog.stream():
            if planner.add(checked, catalog):
                break
        result = planner.finish(catalog)
    plan = FrozenPlan(
        run_id=run_id,
        catalog_uri=catalog_uri,
        catalog_sha256=catalog.sha256,
        settings=settings,
        shards=result.shards,
        counts=result.counts,
        categories=result.categories,
    )
    content = plan.to_json().encode()
    store.put_if(plan_manifest_key(run_id), content, None, content_type="application/json")
    return plan


def check_plan(
    store: ObjectStore,
    run_id: str,
    catalog_uri: str,
    settings: RunSettings,
    scopes: Scopes,
    *,
    is_new: bool = False,
) -> None:
    """Raises RunConflict, and BadInput for categories in the settings that no model has, as freeze_plan does.

    Unlike freeze_plan it is quick, and can be called before a run starts. `is_new` says that the store has
    nothing of this run id.
    """
    _check_categories(settings, scopes)
    with open_catalog(catalog_uri, settings.columns) as catalog:
        if not is_new:
            _find_earlier(store, run_id, catalog, settings)


def load_shard(store: ObjectStore, run_id: str, shard: int, digest: str | None = None) -> list[Slot]:
    """Returns a shard's slots in the catalog's order. Raises ObjectNotFound, or TableError for damage.

    `digest` is the sha256 that the plan gives the shard; raises RunConflict for another shard.
    """
    key = plan_key(run_id, shard)
    data = store.get(key)
    if digest is not None and sha256(data).hexdigest() != digest:
        raise RunConflict(
            f"{key} is not the one of the plan: another process planned the run id {run_id} at the same "
            "time, or the file is damaged; use another run id"
        )
    try:
        table = read_plan(data, key).select([each.name for each in fields(Slot)])
        rows = table.to_pylist(maps_as_pydicts="strict")
    except KeyError as error:  # a map cell holds a key twice
        raise TableError(f"{key} is damaged: {error}; start the run again with another id") from None
    for row in rows:
        row["attributes"] = row["attributes"] or {}
        row["sibling_phashes"] = tuple(row["sibling_phashes"])
    return [Slot(**row) for row in rows]


@contextmanager
def _without_mark_if_refused(store: ObjectStore, run_id: str) -> Iterator[None]:
    """Removes the mark of a run that will not continue, because prune keeps objects for a marked run."""
    try:
        yield
    except RunConflict:
        raise
    except (BadInput, TableError):
        store.delete(planning_key(run_id))
        raise


def _check_categories(settings: RunSettings, scopes: Scopes) -> None:
    known = set[str]().union(*(scope.categories for scope in scopes.values()))
    unknown = sorted(set(settings.categories) - known)
    if unknown:
        raise BadInput(
            f"{', '.join(settings.models.values())} makes no pictures of {', '.join(unknown)}; "
            f"known are {', '.join(sorted(known))}"
        )


def _find_earlier(
    store: ObjectStore, run_id: str, catalog: Catalog, settings: RunSettings
) -> FrozenPlan | None:
    """Returns the plan of a used run id; raises RunConflict if catalog or settings differ."""
    manifest = read_manifest(store, run_id)
    if manifest is not None:
        _refuse_another(run_id, (manifest.catalog_sha256, manifest.settings), catalog, settings)
    key = plan_manifest_key(run_id)
    try:
        plan = FrozenPlan.from_json(store.get(key), key)
    except ObjectNotFound:
        return _plan_of(manifest, settings) if manifest is not None else None
    _refuse_another(run_id, (plan.catalog_sha256, plan.settings.to_json()), catalog, settings)
    return plan


def _refuse_another(
    run_id: str, began_with: tuple[str, Mapping[str, object]], catalog: Catalog, settings: RunSettings
) -> None:
    """Raises RunConflict that names each difference from the catalog and settings of the first start."""
    old_sha256, old = began_with
    old, new = _flat(old), _flat(settings.to_json())
    differences = [
        f"{name} is {new.get(name)!r}, but was {old.get(name)!r}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if catalog.sha256 != old_sha256:
        differences.insert(
            0, f"the catalog's sha256 is {catalog.sha256[:12]}..., but was {old_sha256[:12]}..."
        )
    if differences:
        raise RunConflict(
            f"the run id {run_id} belongs to a run with another catalog or other settings: "
            f"{'; '.join(differences)}. Use the same catalog and settings as before, or another run id"
        )


def _flat(settings: Mapping[str, Any]) -> dict[str, object]:
    """Returns the settings with an entry for each model in place of one for all models."""
    models = {f"the {role} model": name for role, name in settings["models"].items()}
    return {**{name: value for name, value in settings.items() if name != "models"}, **models}


def _plan_of(manifest: Manifest, settings: RunSettings) -> FrozenPlan:
    """Returns the plan of a finished run without its shards, which were deleted."""
    return FrozenPlan(
        run_id=manifest.run_id,
        catalog_uri=manifest.catalog_uri,
        catalog_sha256=manifest.catalog_sha256,
        settings=settings,
        shards=(),
        counts=manifest.counts,
        categories=manifest.categories,
    )
