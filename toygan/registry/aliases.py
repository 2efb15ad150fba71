"""Reads and changes the aliases of a store's models.

An alias is a name for a version. All aliases are in one file, which is replaced in one step.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from toygan.artifact.json_object import json_object
from toygan.errors import ModelError, ObjectNotFound
from toygan.storage.keys import ALIASES_KEY
from toygan.storage.store import ObjectStore
from toygan.storage.update import update


@dataclass(frozen=True, kw_only=True, order=True)
class ModelRef:
    """A model version in a store."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, kw_only=True)
class Alias:
    """The model of an alias, and its earlier models, oldest first."""

    now: ModelRef
    history: tuple[ModelRef, ...] = ()


def read_aliases(store: ObjectStore) -> dict[str, Alias]:
    """Returns the aliases by name; raises ModelError if the file is damaged."""
    try:
        return _parse_aliases(store.get(ALIASES_KEY), store.uri)
    except ObjectNotFound:
        return {}


def change_alias(store: ObjectStore, alias: str, change: Callable[[Alias | None], Alias | None]) -> None:
    """Replaces the state of `alias` by the result of `change(state)`; None stands for a missing alias.

    `change` may be called several times if other processes change the aliases at the same time.
    """

    def rewrite(before: bytes | None) -> bytes | None:
        aliases = {} if before is None else _parse_aliases(before, store.uri)
        found = aliases.pop(alias, None)
        after = change(found)
        if after == found:
            return before
        return _write_aliases(aliases if after is None else {**aliases, alias: after})

    update(store, ALIASES_KEY, rewrite, content_type="application/json")


def _parse_aliases(data: bytes, where: str) -> dict[str, Alias]:
    content = json_object(data, ALIASES_KEY, "remove it and promote a model again")
    try:
        return {
            alias: Alias(now=_ref(entry), history=tuple(_ref(older) for older in entry["history"]))
            for alias, entry in content.items()
        }
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"{ALIASES_KEY} of {where} is damaged ({error!r}); remove it and promote a model again"
        ) from None


def _write_aliases(aliases: Mapping[str, Alias]) -> bytes:
    def entry(ref: ModelRef) -> dict[str, str]:
        return {"name": ref.name, "version": ref.version}

    content = {
        name: {**entry(alias.now), "history": [entry(older) for older in alias.history]}
        for name, alias in aliases.items()
    }
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def _ref(entry: Mapping[str, str]) -> ModelRef:
    return ModelRef(name=entry["name"], version=entry["version"])
