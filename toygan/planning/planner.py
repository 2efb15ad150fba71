"""Reads a catalog once from beginning to end: rejects rows, compares products with live pictures, fills the
shards.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from catalog_schemas.products import CONDITION_COLUMNS
from catalog_schemas.runs import PLAN
from catalog_schemas.validation import (
    REJECTED_ROWS,
    CheckedTable,
    conform,
    hash_strings,
    parquet_bytes,
)
from toygan.approval.policy import MAX_ATTEMPTS
from toygan.conditions.condition_types import BY_PRECEDENCE, DRAWINGS, MAIN, ImageCondition
from toygan.conditions.main_colour import MainColours
from toygan.planning.catalog import Catalog, count_reasons, no_good_row
from toygan.planning.choice import Chooser, Products, Slots
from toygan.planning.colours import with_main_colours
from toygan.planning.condition_files import (
    NO_MODEL,
    Hashed,
    KeptConditions,
    Problem,
    Scopes,
    hash_conditions,
    set_aside,
    take_out,
)
from toygan.planning.rows import fingerprints_of
from toygan.planning.settings import RunSettings
from toygan.planning.summaries import Summaries
from toygan.planning.writer import Kind, PlanWriter, Shard, put_unless_frozen
from toygan.storage.keys import rejected_rows_key
from toygan.storage.store import ObjectStore

_MOST_SLOTS = 65_536  # the largest number of slots that are planned at a time, which limits the memory
_MAP = pa.map_(pa.string(), pa.string())
_COMPACT_REJECTED = pa.schema(
    [
        ("row", pa.int64()),
        ("sku", pa.string()),
        ("column", pa.dictionary(pa.int32(), pa.string())),
        ("reason", pa.dictionary(pa.int32(), pa.string())),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The result of planning; see FrozenPlan for the counts."""

    shards: tuple[Shard, ...]
    counts: dict[str, int]
    categories: dict[str, dict[str, int]]


class Planner:
    """The state of planning."""

    def __init__(
        self,
        store: ObjectStore,
        run_id: str,
        settings: RunSettings,
        scopes: Scopes,
        shard_size: int,
        pool: Executor,
        summaries: Summaries,
    ) -> None:
        self._store = store
        self._run_id = run_id
        self._settings = settings
        self._scopes = scopes
        self._pool = pool
        self._writer = PlanWriter(store, run_id, shard_size, pool)
        self._chooser = Chooser(store, run_id, settings, summaries)
        self._kept = KeptConditions(store, scopes)
        self._models = settings.models
        self._colours = {role: MainColours(scope.colour_names) for role, scope in scopes.items()}
        self._rejected: list[pa.Table] = []
        self._reasons: list[pd.Series[int]] = []
        self._rejected_rows = 0
        self._usable = 0
        self._products: Counter[str] = Counter()
        self._unchanged: Counter[str] = Counter()
        self._exhausted: Counter[str] = Counter()
        self._deferred: Counter[str] = Counter()
        self._planned: Counter[str] = Counter()

    def add(self, checked: CheckedTable, catalog: Catalog) -> bool:
        """Plans one batch. Returns True if the limit is reached; the rows after that are ignored."""
        good = checked.good.assign(image_condition=self._choose_models(checked.good))
        known = good["image_condition"].notna() | good["category"].isin(self._scopes[MAIN].categories)
        unknown = good[~known]
        rejected = [
            checked.rejected,
            set_aside(unknown, "category", NO_MODEL + unknown["category"].to_numpy()),
        ]
        good = good[known]
        if self._settings.categories:
            chosen = good["category"].isin(self._settings.categories)
            self._usable += int((~chosen).sum())
            good = good[chosen]
        good = good.fillna({"images_wanted": self._settings.images_per_product})
        is_full = False
        while len(good) and not is_full:
            slots = good["images_wanted"].cumsum().to_numpy("int64")
            size = int(np.searchsorted(slots, _MOST_SLOTS, "right"))
            if self._settings.limit is not None:
                size = min(size, self._settings.limit - self._products.total())
            head, good = good.iloc[:size], good.iloc[size:]
            usable, conditions, unreadable = hash_conditions(head, catalog, self._pool)
            rejected.append(unreadable)
            if len(usable):
                rejected.append(self._plan_products(usable, conditions, catalog))
            is_full = self._products.total() == self._settings.limit
            if is_full:
                rejected = [frame[frame["row"] <= head.index[-1]] for frame in rejected]
        self._note_rejected(pd.concat(rejected).sort_values("row", kind="stable"))
        return is_full

    def finish(self, catalog: Catalog) -> Planned:
        """Writes shards and rejected rows. Raises CatalogError, and writes nothing, if no row is good.

        Raises Conflict as put_unless_frozen does.
        """
        if not self._usable:
            raise no_good_row(catalog.uri, self._rejected_rows, self._reasons)
        shards = self._writer.finish()
        rejected = pa.concat_tables([_COMPACT_REJECTED.empty_table(), *self._rejected])
        data = parquet_bytes(conform(rejected, REJECTED_ROWS, "the rejected rows"))
        put_unless_frozen(self._store, self._run_id, rejected_rows_key(self._run_id), data)
        by_category = {
            "products": self._products,
            "unchanged": self._unchanged,
            "exhausted": self._exhausted,
            "deferred": self._deferred,
            "planned": self._planned,
        }
        return Planned(
            shards=shards,
            counts={
                "rejected_rows": self._rejected_rows,
                **{name: counter.total() for name, counter in by_category.items()},
            },
            categories={
                category: {name: counter[category] for name, counter in by_category.items()}
                for category in sorted(self._products)
            },
        )

    def _choose_models(self, products: pd.DataFrame) -> "pd.Series[Any]":
        """Says from which image each product is generated: photo, else layout, else sketch, else none.

        None also stands for layout and sketch together, which the main model may take.
        """
        # A list, because pandas would turn a single None into NaN.
        chosen = pd.Series([None] * len(products), index=products.index, dtype=object)
        for kind in BY_PRECEDENCE:
            if (scope := self._scopes.get(kind)) is not None:
                has = products[CONDITION_COLUMNS[kind]].notna() & products["category"].isin(scope.categories)
                chosen[has] = kind
        main = self._scopes[MAIN]
        if main.takes_drawings:
            has_both = products[[CONDITION_COLUMNS[kind] for kind in DRAWINGS]].notna().all(axis="columns")
            chosen[has_both & (chosen != "photo") & products["category"].isin(main.categories)] = None
        return chosen

    def _note_rejected(self, rejected: pd.DataFrame) -> None:
        if rejected.empty:
            return
        self._rejected_rows += rejected["row"].nunique()
        self._reasons.append(count_reasons(rejected))
        self._rejected.append(pa.Table.from_pandas(rejected, _COMPACT_REJECTED, preserve_index=False))

    def _plan_products(
        self, frame: pd.DataFrame, conditions: Hashed, catalog: Catalog, *, are_kept: bool = False
    ) -> pd.DataFrame:
        """Writes the slots of products. Returns the rejected rows of products that cannot be generated.

        `are_kept` says whether the store already has the condition files.
        """
        skus = pa.array(frame["sku"], pa.large_string())
        image_conditions = frame["image_condition"].to_list()
        products = Products(
            frame=frame,
            conditions=conditions,
            image_conditions=image_conditions,
            models=pa.array([self._models[kind or MAIN] for kind in image_conditions], pa.large_string()),
            wanted=frame["images_wanted"].to_numpy("int64"),
            skus=skus,
            hashes=hash_strings(skus),
            fingerprints=pa.array(fingerprints_of(frame, conditions), pa.large_string()),
        )
        slots = self._chooser.choose(products)
        bad = {} if are_kept else self._keep_conditions(products, slots, catalog)
        usable, hashed, rejected = take_out(bad, frame, conditions)
        if bad:  # the slots are chosen again for the remaining products
            if len(usable):
                self._plan_products(usable, hashed, catalog, are_kept=True)
            return rejected
        category = frame["category"].to_numpy()
        self._usable += len(frame)
        self._products.update(category)
        self._unchanged.update(np.repeat(category, slots.kept))
        self._exhausted.update(category[slots.exhausted])
        self._deferred.update(category[slots.deferred])
        self._planned.update(category[slots.product])
        self._chooser.note(slots)
        if len(slots.product):
            table = self._table(products, slots)
            for name, kind in sorted(_kinds(table), key=str):
                of_kind = pc.equal(pc.fill_null(table["image_condition"], ""), kind or "")
                of_both = pc.and_(pc.equal(table["category"], name), of_kind)
                self._writer.add((name, kind), table.filter(of_both))
        return rejected

    def _keep_conditions(self, products: Products, slots: Slots, catalog: Catalog) -> dict[int, Problem]:
        """Puts the condition files of planned slots into the store.

        Returns column and reason for each product with an unusable file, by position. Skips products without
        a planned slot, because the store has their files already.
        """
        wanted = []
        for position in np.unique(slots.product).tolist():
            hashes = products.conditions[position]
            for kind in self._images_taken(products.image_conditions[position], hashes):
                uri = products.frame[CONDITION_COLUMNS[kind]].iloc[position]
                wanted.append((position, (kind, uri, hashes[kind])))
        return self._kept.keep_all(wanted, catalog, self._pool)

    def _images_taken(
        self, chosen: ImageCondition | None, given: Mapping[str, str]
    ) -> tuple[ImageCondition, ...]:
        """Returns the types of images that a product is generated from."""
        if chosen is not None:
            return (chosen,)
        return DRAWINGS if self._scopes[MAIN].takes_drawings and set(DRAWINGS) <= given.keys() else ()

    def _table(self, products: Products, slots: Slots) -> pa.Table:
        """Returns the slots with the columns of PLAN."""
        frame = with_main_colours(
            products.frame, products.image_conditions, np.unique(slots.product), self._colours
        )
        columns = {
            name: pa.array(frame[name], PLAN.field(name).type)
            for name in PLAN.names
            if name in frame.columns and name not in ("attributes", "image_condition")
        }
        columns["image_condition"] = pa.array(products.image_conditions, pa.string())
        columns["row"] = pa.array(frame.index.to_numpy())
        columns["attributes"] = pa.array(_pairs(frame["attributes"]), _MAP)
        columns["condition_sha256"] = pa.array(_pairs(products.conditions), _MAP)
        columns["row_fingerprint"] = products.fingerprints
        table = pa.table(columns).take(pa.array(slots.product))
        first = slots.earlier.attempts
        left = np.full(len(first), MAX_ATTEMPTS, dtype=np.int32)
        if self._settings.mode in ("missing", "refresh"):
            # If a person asks for another picture, all attempts are allowed again.
            may_continue = (first < MAX_ATTEMPTS) & ~slots.asked
            left = np.where(may_continue, MAX_ATTEMPTS - first, left)
        table = (
            table.append_column("image_index", pa.array(slots.image_index))
            .append_column("images_kept", pa.array(slots.kept[slots.product]))
            .append_column("first_attempt", pa.array(first))
            .append_column("attempts", pa.array(left))
            .append_column("review_p_real", pa.array(slots.earlier.review_p_real, from_pandas=True))
            .append_column("sibling_phashes", self._chooser.sibling_phashes(products, slots))
        )
        return conform(table, PLAN, "the plan")


def _kinds(slots: pa.Table) -> set[Kind]:
    return set(zip(slots["category"].to_pylist(), slots["image_condition"].to_pylist(), strict=True))


def _pairs(maps: Iterable[Mapping[str, str] | None]) -> list[list[tuple[str, str]] | None]:
    return [None if each is None else list(each.items()) for each in maps]
