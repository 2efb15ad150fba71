"""Hashes condition files when a run is planned, and keeps the files that pictures are generated from.

A condition file must be available when its picture is generated, perhaps on another machine, and when the
picture is reproduced, perhaps years later.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from hashlib import sha256
from typing import Any, Final, get_args

import numpy as np
import pandas as pd

from catalog_schemas.products import CONDITION_COLUMNS
from catalog_schemas.validation import rejected_frame
from toygan.artifact.scope import ModelScope
from toygan.conditions.condition_types import ImageCondition, ModelRole
from toygan.errors import BadInput, ObjectNotFound
from toygan.images import decode, decode_labels, decode_photo
from toygan.planning.catalog import Catalog
from toygan.planning.named_files import ConditionFileError
from toygan.storage.keys import condition_key
from toygan.storage.store import ObjectStore

Scopes = Mapping[ModelRole, ModelScope]
Hashed = list[Mapping[str, str]]  # for each product, maps condition types to the sha256 of the file
NO_MODEL: Final = "no_model_for_category: "  # the beginning of a reason, which the category follows
Problem = tuple[str, str]  # the column, and the reason why the row is set aside


def hash_conditions(
    products: pd.DataFrame, catalog: Catalog, pool: Executor
) -> tuple[pd.DataFrame, Hashed, pd.DataFrame]:
    """Returns the products without a missing condition file, the files' hashes, and the rejected rows."""
    return _with_files(products, pool, lambda kind, name: catalog.condition_sha256(name))


def decode_conditions(
    products: pd.DataFrame, catalog: Catalog, pool: Executor
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the products whose condition files can all be decoded, and the rejected rows."""

    def attempt(kind: ImageCondition, name: str) -> str:
        _largest_label(kind, name, catalog.read_condition(name))
        return ""

    usable, _, rejected = _with_files(products, pool, attempt)
    return usable, rejected


def _with_files(
    products: pd.DataFrame, pool: Executor, attempt: Callable[[ImageCondition, str], str]
) -> tuple[pd.DataFrame, Hashed, pd.DataFrame]:
    """Calls `attempt` once for each distinct file.

    Returns the products for which it never raised ConditionFileError, what it returned for their files, and
    the rejected rows.
    """

    def problem_or(file: tuple[ImageCondition, str]) -> tuple[str, bool]:
        try:
            return attempt(*file), True
        except ConditionFileError as error:
            return str(error), False

    results: list[dict[str, str]] = [{} for _ in range(len(products))]
    bad: dict[int, Problem] = {}
    for kind in get_args(ImageCondition):
        column = CONDITION_COLUMNS[kind]
        given = np.flatnonzero(products[column].notna())
        files = [(kind, name) for name in products[column].iloc[given]]
        distinct = list(dict.fromkeys(files))
        found = dict(zip(distinct, pool.map(problem_or, distinct), strict=True))
        for position, file in zip(given.tolist(), files, strict=True):
            text, is_usable = found[file]
            if is_usable:
                results[position][kind] = text
            else:
                bad.setdefault(position, (column, text))
    return take_out(bad, products, list(results))


def take_out(
    bad: Mapping[int, Problem], products: pd.DataFrame, hashed: Hashed
) -> tuple[pd.DataFrame, Hashed, pd.DataFrame]:
    """Removes the products at the positions in `bad`.

    Returns the remaining products, their hashes, and the rejected rows.
    """
    if not bad:
        return products, hashed, set_aside(products.iloc[:0], "", "")
    where = sorted(bad)
    columns, reasons = zip(*(bad[position] for position in where), strict=True)
    keep = np.setdiff1d(np.arange(len(products)), where)
    rejected = set_aside(products.iloc[where], columns, reasons)
    return products.iloc[keep], [hashed[position] for position in keep], rejected


def set_aside(rows: pd.DataFrame, column: Any, reason: Any) -> pd.DataFrame:
    """Returns `rows` as rejected rows.

    `column` and `reason` are a value for all rows, or one value for each row.
    """
    problems = pd.DataFrame({"row": rows.index, "column": column, "reason": reason})
    return rejected_frame(problems, rows["sku"])


class KeptConditions:
    """Puts condition files into the store while a run is being planned. Safe to use from many threads.

    No table names the files before the plan is frozen. The mark of the run (`toygan.planning.pruning`) stops
    `verify --prune` from removing them.
    """

    def __init__(self, store: ObjectStore, scopes: Scopes) -> None:
        self._store = store
        self._scopes = scopes

    def keep_all(
        self, wanted: Sequence[tuple[int, tuple[ImageCondition, str, str]]], catalog: Catalog, pool: Executor
    ) -> dict[int, Problem]:
        """Keeps the files in `wanted`: pairs of a position and (condition type, name, hash).

        Returns the problems by position.
        """

        def attempt(condition: tuple[ImageCondition, str, str]) -> str | None:
            try:
                self.keep(*condition, catalog)
            except ConditionFileError as error:
                return str(error)
            return None

        distinct = list(dict.fromkeys(condition for _, condition in wanted))
        problems = dict(zip(distinct, pool.map(attempt, distinct), strict=True))
        return {
            position: (CONDITION_COLUMNS[condition[0]], problem)
            for position, condition in wanted
            if (problem := problems[condition]) is not None
        }

    def keep(self, kind: ImageCondition, name: str, digest: str, catalog: Catalog) -> None:
        """Puts the file that the row calls `name` into the store, unless the store has it.

        Raises ConditionFileError for a file that is not a valid condition, and for a file that has changed
        since it was hashed.
        """
        data = catalog.read_condition(name)
        if sha256(data).hexdigest() != digest:
            raise ConditionFileError(f"condition_file_changed: {name}")
        largest = _largest_label(kind, name, data)
        if kind == "layout":
            self._check_labels(name, largest)
        key = condition_key(digest)
        # Another size means that the store's copy is damaged.
        if _size(self._store, key) != len(data):
            self._store.put(key, data)

    def _check_labels(self, name: str, largest: int) -> None:
        classes = min(
            scope.layout_classes
            for role, scope in self._scopes.items()
            if role == "layout" or scope.takes_drawings
        )
        if largest >= classes:
            raise ConditionFileError(
                f"condition_file_unusable: {name}: it holds the label {largest}, but the model has the "
                f"labels 0 to {classes - 1}"
            )


def _size(store: ObjectStore, key: str) -> int | None:
    try:
        return store.size(key)
    except ObjectNotFound:
        return None


def _largest_label(kind: ImageCondition, name: str, data: bytes) -> int:
    """Decodes the file that a row calls `name`. Returns the largest label of a layout, and 0 for others.

    Raises ConditionFileError if the file cannot be decoded.
    """
    try:
        if kind == "layout":
            return int(decode_labels(data).max())
        if kind == "photo":
            decode_photo(data)
        else:
            decode(data)
    except BadInput as error:
        raise ConditionFileError(f"condition_file_unusable: {name}: {error}") from None
    return 0


def read_kept(store: ObjectStore, digest: str) -> bytes:
    """Reads a file that `keep` stored; raises BadInput if it is missing or damaged."""
    key = condition_key(digest)
    try:
        data = store.get(key)
    except ObjectNotFound:
        raise BadInput(f"{key} is missing in {store.uri}; put it back, or start a new run") from None
    if sha256(data).hexdigest() != digest:
        raise BadInput(f"{key} in {store.uri} is damaged; remove it and start a new run")
    return data
