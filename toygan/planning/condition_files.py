"""Condition files: hashed when a run is planned; those that pictures are drawn from are kept in the store.

What a picture was made from must be there when it is drawn, perhaps on another machine, and when it is made
again, perhaps years later.
"""

import threading
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import numpy as np
import pandas as pd

from catalog_schemas.products import CONDITION_COLUMNS
from catalog_schemas.validation import rejected_frame
from toygan.conditions.colour_names import NO_COLOUR_NAMES, ColourNames
from toygan.conditions.condition_types import ImageCondition
from toygan.errors import BadInput, ObjectNotFound
from toygan.images import decode, decode_labels
from toygan.planning.catalog import Catalog, ConditionFileError
from toygan.storage.keys import condition_key, planning_key
from toygan.storage.store import ObjectStore


@dataclass(frozen=True, kw_only=True)
class ModelScope:
    """What one of a run's models can draw."""

    categories: frozenset[str]
    layout_classes: int = 256  # labels that a layout may hold, from 0 on
    colour_names: ColourNames = NO_COLOUR_NAMES  # what its photos called which colour


Scopes = Mapping[ImageCondition | None, ModelScope]
Hashed = list[Mapping[str, str]]  # of each product the sha256 of its condition files by kind
NO_MODEL: Final = (
    "no_model_for_category: "  # begins the reason of a row whose category, behind it, is unknown
)
Problem = tuple[str, str]  # column, and the reason that the row is set aside with


def hash_conditions(
    products: pd.DataFrame, catalog: Catalog, pool: Executor
) -> tuple[pd.DataFrame, Hashed, pd.DataFrame]:
    """The products whose condition files are all there, the files' hashes, and the products set aside."""

    def attempt(uri: str) -> tuple[str, bool]:
        try:
            return catalog.condition_sha256(uri), True
        except ConditionFileError as error:
            return str(error), False

    hashed: list[dict[str, str]] = [{} for _ in range(len(products))]
    bad: dict[int, Problem] = {}
    for kind, column in CONDITION_COLUMNS.items():
        given = np.flatnonzero(products[column].notna())
        uris = products[column].iloc[given].to_list()
        distinct = list(dict.fromkeys(uris))
        found = dict(zip(distinct, pool.map(attempt, distinct), strict=True))
        for position, uri in zip(given.tolist(), uris, strict=True):
            text, is_hash = found[uri]
            if is_hash:
                hashed[position][kind] = text
            else:
                bad.setdefault(position, (column, text))
    return take_out(bad, products, list(hashed))


def take_out(
    bad: Mapping[int, Problem], products: pd.DataFrame, hashed: Hashed
) -> tuple[pd.DataFrame, Hashed, pd.DataFrame]:
    """The products but for those at the positions of `bad`, their hashes, and the bad ones set aside."""
    if not bad:
        return products, hashed, set_aside(products.iloc[:0], "", "")
    where = sorted(bad)
    columns, reasons = zip(*(bad[position] for position in where), strict=True)
    keep = np.setdiff1d(np.arange(len(products)), where)
    rejected = set_aside(products.iloc[where], columns, reasons)
    return products.iloc[keep], [hashed[position] for position in keep], rejected


def set_aside(rows: pd.DataFrame, column: Any, reason: Any) -> pd.DataFrame:
    """Good rows that cannot be used after all; `column` and `reason` are one for all or one a row."""
    problems = pd.DataFrame({"row": rows.index, "column": column, "reason": reason})
    return rejected_frame(problems, rows["sku"])


class KeptConditions:
    """Where a run that is being planned puts its condition files. Safe to use from many threads."""

    def __init__(self, store: ObjectStore, run_id: str, scopes: Scopes) -> None:
        self._store = store
        self._run_id = run_id
        self._scopes = scopes
        self._lock = threading.Lock()
        self._is_announced = False

    def keep_all(
        self, wanted: Mapping[int, tuple[ImageCondition, str, str]], catalog: Catalog, pool: Executor
    ) -> dict[int, Problem]:
        """Keep the file (kind, name, hash) of each position; returns what is wrong where that cannot be."""

        def attempt(condition: tuple[ImageCondition, str, str]) -> str | None:
            try:
                self.keep(*condition, catalog)
            except ConditionFileError as error:
                return str(error)
            return None

        distinct = list(dict.fromkeys(wanted.values()))
        problems = dict(zip(distinct, pool.map(attempt, distinct), strict=True))
        return {
            position: (CONDITION_COLUMNS[condition[0]], problem)
            for position, condition in wanted.items()
            if (problem := problems[condition]) is not None
        }

    def keep(self, kind: ImageCondition, name: str, digest: str, catalog: Catalog) -> None:
        """Puts the file that a row calls `name` into the store, unless it is there.

        Raises ConditionFileError for a file that cannot be drawn from, and one that is no longer what it was
        hashed as.
        """
        data = catalog.read_condition(name)
        if sha256(data).hexdigest() != digest:
            raise ConditionFileError(f"condition_file_changed: {name}")
        try:
            if kind == "sketch":
                decode(data)
            else:
                self._check_labels(int(decode_labels(data).max()))
        except BadInput as error:
            raise ConditionFileError(f"condition_file_unusable: {name}: {error}") from None
        self._announce()
        key = condition_key(digest)
        if not self._store.exists(key):
            self._store.put(key, data)

    def _check_labels(self, largest: int) -> None:
        classes = self._scopes["layout"].layout_classes
        if largest >= classes:
            raise BadInput(f"it holds the label {largest}, the model knows 0 to {classes - 1}")

    def _announce(self) -> None:
        """Until the plan is frozen no table names what is kept; this says that somebody is about to."""
        with self._lock:
            if not self._is_announced:
                self._store.put(planning_key(self._run_id), b"")
                self._is_announced = True


def read_kept(store: ObjectStore, digest: str) -> bytes:
    """A file that `keep` put; raises BadInput where it is gone or another by now."""
    key = condition_key(digest)
    try:
        data = store.get(key)
    except ObjectNotFound:
        raise BadInput(f"{key} is missing in {store.uri}; put it back, or start a new run") from None
    if sha256(data).hexdigest() != digest:
        raise BadInput(f"{key} in {store.uri} is damaged; remove it and start a new run")
    return data
