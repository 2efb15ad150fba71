"""Promotes a model to an alias of a store, and rolls an alias back to its earlier model."""

from toygan.artifact.config import config_of
from toygan.artifact.files import CALIBRATION, ModelFiles, looks_like_version
from toygan.errors import BadInput, ModelError
from toygan.registry.aliases import Alias, ModelRef, change_alias, read_aliases
from toygan.registry.models import (
    CHAMPION,
    CHAMPIONS,
    add_model,
    bundled_folder,
    bundled_models,
    find_default,
    is_bundled,
    list_models,
    read_bundled,
    read_version,
    role_of,
    what_there_is,
)
from toygan.storage.keys import NAME
from toygan.storage.store import ObjectStore

_KEPT_HISTORY = 20


def promote(
    store: ObjectStore, name: str, version: str | None = None, alias: str | None = None
) -> tuple[str, ModelRef]:
    """Points `alias` to a version in the store, or to a bundled model; returns the alias and the version.

    Without `version`, the model must have only one version. The model is read and checked first. A bundled
    model is copied into the store. The default alias is that of CHAMPIONS for the model's image condition;
    another alias of CHAMPIONS is refused, and any of them for a model without a calibration. The previous
    model is added to the history of the alias. Raises ModelError.
    """
    if alias is not None and (not NAME.fullmatch(alias) or looks_like_version(alias)):
        raise BadInput(f"{alias!r} cannot be an alias; use a name such as {CHAMPION!r} or 'challenger'")
    model, is_stored = _to_promote(store, name, version)
    new = ModelRef(name=model.name, version=model.version)
    usual = CHAMPIONS[role_of(config_of(model))]
    alias = alias or usual
    if alias in CHAMPIONS.values() and alias != usual:
        raise ModelError(f"{new} cannot be the {alias}: for its image condition, use {usual}")
    if alias in CHAMPIONS.values() and CALIBRATION not in model.files:
        raise ModelError(
            f"{new} cannot be the {alias}, because it is not calibrated, so every night would fail; run "
            "`toygan calibrate` on its folder, add it again and promote the new version"
        )
    if not is_stored:
        with bundled_folder(name) as folder:
            add_model(store, folder, name)
    change_alias(store, alias, lambda old: _followed(old, new))
    return alias, new


def _to_promote(store: ObjectStore, name: str, version: str | None) -> tuple[ModelFiles, bool]:
    """Returns the requested model, and whether it is in the store."""
    stored = [model.version for model in list_models(store) if model.name == name]
    bundled = read_bundled(name) if name in bundled_models() else None
    if version is None:
        versions = sorted({*stored, *([bundled.version] if bundled else [])})
        if len(versions) > 1:
            raise ModelError(
                f"there are {len(versions)} versions of {name} in {store.uri} and in this installation; "
                f"give one of {', '.join(f'{name}@{each}' for each in versions)}"
            )
        if not versions:
            raise ModelError(f"there is no model {name!r}{what_there_is(store)}")
        version = versions[0]
    if bundled is not None and bundled.version == version and version not in stored:
        return bundled, False
    return read_version(store, name, version), True


def succeed(store: ObjectStore, new: ModelRef, *, after: ModelRef) -> bool:
    """Makes `new` the champion if `after` is still the champion. Both are versions in the store.

    In a store without a champion, the bundled model counts as the champion. Returns True if `new` is the
    champion now, even if it was the champion before. If another model than `new` and `after` is the champion,
    it returns False and changes nothing. Raises ModelError for a missing version.
    """
    for ref in (new, after):
        read_version(store, ref.name, ref.version)
    found = find_default(None)
    bundled = Alias(now=ModelRef(name=found.name, version=found.version)) if found else None
    is_champion = False

    def change(old: Alias | None) -> Alias | None:
        nonlocal is_champion
        before = old or bundled
        is_champion = before is not None and before.now in (after, new)
        return _followed(before, new) if is_champion else old

    change_alias(store, CHAMPION, change)
    return is_champion


def rollback(store: ObjectStore, alias: str = CHAMPION) -> ModelRef | None:
    """Points `alias` to its previous model again, and returns that model.

    If an alias of CHAMPIONS has no previous model, the alias is removed, so that the bundled model is used
    again. Then the bundled model is returned, or None if there is no bundled model.

    Raises ModelError. It also does so if another process has changed the alias in the meantime, because the
    caller does not want to undo that change. Two concurrent calls from the same state have the same result.
    """
    found = read_aliases(store).get(alias)
    if found is None or not (found.history or alias in CHAMPIONS.values()):
        raise ModelError(f"{store.uri}: the alias {alias!r} has no earlier model to go back to")
    wanted = None
    if found.history:
        wanted = Alias(now=found.history[-1], history=found.history[:-1])
        read_version(store, wanted.now.name, wanted.now.version)

    def change(now: Alias | None) -> Alias | None:
        if now not in (found, wanted):
            raise ModelError(
                f"{store.uri}: another process has changed the alias {alias!r}; check it and roll back again"
            )
        return wanted

    change_alias(store, alias, change)
    return wanted.now if wanted else _serving(store, alias)


def _serving(store: ObjectStore, alias: str) -> ModelRef | None:
    """Returns the model that is used for an alias of CHAMPIONS.

    Bundled models for images are used only if the model for no image is bundled, too.
    """
    role = next(role for role, name in CHAMPIONS.items() if name == alias)
    champion = find_default(store)
    found = find_default(store, role, may_be_bundled=champion is None or is_bundled(champion))
    return ModelRef(name=found.name, version=found.version) if found else None


def _followed(old: Alias | None, new: ModelRef) -> Alias:
    if old is None or old.now == new:
        return old or Alias(now=new)
    return Alias(now=new, history=(*old.history, old.now)[-_KEPT_HISTORY:])
