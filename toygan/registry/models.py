"""Model versions and their aliases in a store, and the models bundled with the package.

A model is a few files. Its version is a digest of their content. So a version never changes, and swapped,
truncated or mixed files are detected on reading. No file is ever unpickled.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from toygan.artifact.config import ModelConfig
from toygan.artifact.files import (
    CALIBRATION,
    CONFIG,
    EXTRAS,
    REQUIRED,
    VERSIONED,
    WEIGHTS,
    ModelFiles,
    _read_named,
    check_files,
    looks_like_version,
    model_version,
    read_folder,
)
from toygan.conditions.condition_types import MAIN, ModelRole
from toygan.errors import BadInput, ModelError, ObjectNotFound
from toygan.registry.aliases import Alias, ModelRef, read_aliases
from toygan.registry.hub import hub_extras, hub_reference, read_hub
from toygan.registry.kept_models import models_folder, read_through
from toygan.storage.keys import MODELS_PREFIX, NAME, model_key
from toygan.storage.store import ObjectStore
from toygan.uris import refuse_credentials

CHAMPION = "champion"
# The aliases of the models for each role in a run.
CHAMPIONS: Mapping[ModelRole, str] = MappingProxyType(
    {
        MAIN: CHAMPION,
        "sketch": "champion-sketch",
        "layout": "champion-layout",
        "photo": "champion-photo",
    }
)


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """A line in the list of models. `total_bytes` is the size of all files of the model."""

    name: str
    version: str
    aliases: tuple[str, ...]
    calibrated: bool
    total_bytes: int


def add_model(store: ObjectStore, folder: Path, name: str) -> str:
    """Copies a model's folder, including its EXTRAS, into the store.

    Returns the model's version. Raises ModelError.
    """
    return add_files(store, {**_read_named(folder, EXTRAS), **read_folder(folder)}, name)


def add_files(store: ObjectStore, files: Mapping[str, bytes], name: str) -> str:
    """Puts a model into the store and returns its version. A repetition changes nothing.

    The config is written last, and a version without a config is not listed. So an incomplete model is never
    listed.
    """
    check_files(files, name)
    version = model_version(files)
    optional = [name for name in VERSIONED if name not in REQUIRED]
    for filename in (*EXTRAS, *optional, *WEIGHTS, CONFIG):
        if filename in files:
            store.put(model_key(name, version, filename), files[filename])
    return version


def list_models(store: ObjectStore) -> list[StoredModel]:
    """Returns all model versions of a store, sorted by name and version."""
    sizes: dict[ModelRef, dict[str, int]] = {}
    for info in store.list(MODELS_PREFIX):
        parts = info.key.split("/")
        if len(parts) == 4:
            sizes.setdefault(ModelRef(name=parts[1], version=parts[2]), {})[parts[3]] = info.size
    aliases = read_aliases(store)
    return [
        StoredModel(
            name=ref.name,
            version=ref.version,
            aliases=tuple(sorted(alias for alias, target in aliases.items() if target.now == ref)),
            calibrated=CALIBRATION in sizes[ref],
            total_bytes=sum(sizes[ref].values()),
        )
        for ref in sorted(sizes)
        if CONFIG in sizes[ref]
    ]


def resolve(reference: str | None, store: ObjectStore | None) -> ModelFiles:
    """Returns the model that `reference` names; raises ModelError.

    - None stands for the store's champion, or without a champion for the bundled model.
    - `hf:OWNER/NAME` is a model on the Hugging Face Hub.
    - A text that contains a path separator or starts with a dot is a folder.
    - Any other text is NAME, NAME@VERSION, NAME@ALIAS or an alias. It is looked up in the store, then among
      the bundled models. NAME alone stands for its version that is a champion, else for its only version.
    """
    if reference is None:
        default = find_default(store)
        if default is None:
            raise ModelError(
                "this installation bundles no model; name a model, or promote a model in the store"
            )
        return default
    if on_hub := hub_reference(refuse_credentials(reference)):
        return read_hub(on_hub)
    if folder := folder_of(reference):
        return _from_folder(folder)
    name, _, tag = reference.partition("@")
    ref = _find_in_store(store, name, tag) if store else None
    if store and ref:
        return _read_kept(store, ref.name, ref.version)
    if name in bundled_models():
        model = read_bundled(name)
        if not tag or tag == model.version:
            return model
    raise ModelError(f"there is no model {reference!r}{what_there_is(store)}")


def read_extras(reference: str, model: ModelFiles, store: ObjectStore | None) -> dict[str, bytes]:
    """Returns the EXTRAS of the model that `reference` names. Raises ModelError."""
    if on_hub := hub_reference(reference):
        return _read_named(hub_extras(on_hub), EXTRAS)
    if folder := folder_of(reference):
        return _read_named(folder, EXTRAS)
    found = {}
    if store is not None:
        for name in EXTRAS:
            with suppress(ObjectNotFound):
                found[name] = store.get(model_key(model.name, model.version, name))
    if not found and is_bundled(model):
        with bundled_folder(model.name) as folder:
            return _read_named(folder, EXTRAS)
    return found


def find_default(
    store: ObjectStore | None,
    role: ModelRole = MAIN,
    *,
    may_be_bundled: bool = True,
    aliases: Mapping[str, Alias] | None = None,
) -> ModelFiles | None:
    """Returns the store's champion for a role. Without a champion, returns the bundled model for the role,
    else None.

    Without `may_be_bundled`, the bundled models are ignored. `aliases` are the store's aliases, if the caller
    has read them already. Raises ModelError.
    """
    if aliases is None:
        aliases = read_aliases(store) if store else {}
    champion = aliases.get(CHAMPIONS[role])
    if store and champion:
        return _read_kept(store, champion.now.name, champion.now.version)
    if not may_be_bundled:
        return None
    bundled = [name for name in bundled_models() if role_of(_bundled_config(name)) == role]
    if len(bundled) > 1:
        raise ModelError(
            f"this installation bundles several models: {', '.join(bundled)}; "
            f"name one of them, or promote a model in the store to {CHAMPIONS[role]}"
        )
    return read_bundled(bundled[0]) if bundled else None


def role_of(config: ModelConfig) -> ModelRole:
    """Returns the role of a model in a run."""
    return config.required_condition or MAIN


def is_bundled(model: ModelFiles) -> bool:
    """Whether a model is bundled with the package."""
    return model.name in bundled_models() and model.version == read_bundled(model.name).version


def folder_of(reference: str) -> Path | None:
    """Returns the folder that a reference names; None if it names no folder."""
    if hub_reference(reference):
        return None
    is_path = any(mark in reference for mark in (os.sep, os.altsep) if mark) or reference.startswith(".")
    return Path(reference) if is_path else None


def bundled_models() -> list[str]:
    """Returns the names of the bundled models."""
    folder = resources.files("toygan") / "pretrained"
    return sorted(entry.name for entry in folder.iterdir() if (entry / CONFIG).is_file())


def _bundled_config(name: str) -> ModelConfig:
    content = (resources.files("toygan") / "pretrained" / name / CONFIG).read_bytes()
    return ModelConfig.from_json(content, f"{CONFIG} of the bundled model {name}")


@contextmanager
def bundled_folder(name: str) -> Iterator[Path]:
    """Provides the folder of a bundled model while the context lasts."""
    with resources.as_file(resources.files("toygan") / "pretrained" / name) as folder:
        yield folder


def read_bundled(name: str) -> ModelFiles:
    """Reads and checks a bundled model; raises ModelError."""
    with bundled_folder(name) as folder:
        return _from_folder(folder)


def _from_folder(folder: Path) -> ModelFiles:
    name = folder.resolve().name
    if not NAME.fullmatch(name):
        raise ModelError(
            f"{folder}: {name!r} cannot be a model's name; rename the folder (A-Z a-z 0-9 . _ -)"
        )
    files = read_folder(folder)
    return ModelFiles(name=name, version=model_version(files), files=files)


def read_version(store: ObjectStore, name: str, version: str) -> ModelFiles:
    """Reads a version from the store. Raises ModelError if its files do not have this version's digest."""
    where = f"{store.uri}/{MODELS_PREFIX}{name}/{version}"
    files = {}
    for filename in VERSIONED:
        try:
            files[filename] = store.get(model_key(name, version, filename))
        except ObjectNotFound:
            continue
        except BadInput as error:
            raise ModelError(str(error)) from None
    if not files:
        raise ModelError(f"there is no model {name}@{version}{what_there_is(store)}")
    check_files(files, where)
    if (found := model_version(files)) != version:
        raise ModelError(
            f"{where}: the digest of the files is not this version, but {found}; "
            "add the model again, or roll back"
        )
    return ModelFiles(name=name, version=version, files=files)


def _read_kept(store: ObjectStore, name: str, version: str) -> ModelFiles:
    """Does what read_version does. A version in a bucket is read once, then from the user's cache folder."""
    folder = models_folder() if store.uri.startswith("s3://") else None
    return read_through(name, version, partial(read_version, store, name, version), folder)


def _find_in_store(store: ObjectStore, name: str, tag: str) -> ModelRef | None:
    if looks_like_version(tag):
        is_there = NAME.fullmatch(name) and store.exists(model_key(name, tag, CONFIG))
        return ModelRef(name=name, version=tag) if is_there else None
    aliases = read_aliases(store)
    versions = [model.version for model in list_models(store) if model.name == name]
    if tag:
        found = aliases.get(tag)
        if found and found.now.name != name:
            raise ModelError(
                f"{store.uri}: the alias {tag!r} stands for {found.now}, which is not a version of {name}"
            )
        return found.now if found else None
    if not versions:
        return aliases[name].now if name in aliases else None
    for alias in CHAMPIONS.values():
        if alias in aliases and aliases[alias].now.name == name:
            return aliases[alias].now
    if len(versions) > 1:
        raise ModelError(
            f"{store.uri} has {len(versions)} versions of {name}, and none of them is a champion; "
            f"give one of {', '.join(f'{name}@{version}' for version in versions)}"
        )
    return ModelRef(name=name, version=versions[0])


def what_there_is(store: ObjectStore | None) -> str:
    """Lists the models of the store and the bundled models. This text is the end of error messages."""
    known = [f"{model.name}@{model.version}" for model in list_models(store)] if store else []
    bundled = [f"{name} (bundled)" for name in bundled_models()]
    ways = "A folder is given as ./FOLDER, a model of the Hugging Face Hub as hf:OWNER/NAME"
    return f"; there are: {', '.join(known + bundled) or 'none'}. {ways}"
