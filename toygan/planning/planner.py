"""One walk through the catalog: rows are set aside, or matched against what is live and laid into shards."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from catalog_schemas.products import CONDITION_COLUMNS, FINGERPRINTED, row_fingerprint
from catalog_schemas.runs import PLAN
from catalog_schemas.validation import (
    REJECTED_ROWS,
    CheckedTable,
    conform,
    hash_strings,
    parquet_bytes,
)
from toygan.conditions.kinds import ImageCondition
from toygan.planning.catalog import Catalog, count_reasons, no_good_row
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
from toygan.planning.live import Hashes, History, LivePictures, Positions, row_hashes
from toygan.planning.settings import RunSettings
from toygan.planning.writer import Kind, PlanWriter, Shard
from toygan.storage.keys import rejected_rows_key
from toygan.storage.store import PARQUET, ObjectStore

_MOST_SLOTS = 65_536  # that are planned at a time: bounds the memory
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
    """What the walk came to; see FrozenPlan for the counts."""

    shards: tuple[Shard, ...]
    counts: dict[str, int]
    categories: dict[str, dict[str, int]]


@dataclass(frozen=True, kw_only=True)
class _Products:
    """N usable products of a batch."""

    frame: pd.DataFrame  # columns of PRODUCTS
    conditions: Hashed
    image_conditions: Sequence[ImageCondition | None]  # what each is drawn from
    models: pa.Array  # NAME@VERSION that draws each
    wanted: NDArray[np.int64]  # pictures
    skus: pa.Array
    hashes: Hashes  # of the skus
    fingerprints: pa.Array


@dataclass(frozen=True, kw_only=True)
class _Slots:
    """S planned slots of a batch of products, in the order of products and image indices."""

    product: Positions
    image_index: NDArray[np.int32]
    kept: NDArray[np.int64]  # of each product: live pictures that stay
    live_product: Positions  # of each live picture of one of the products: the product,
    live_row: Positions  # the row of the live table,
    has_sibling: NDArray[np.bool_]  # and whether a slot of another image index is planned


class Planner:
    """The state of a walk."""

    def __init__(
        self,
        store: ObjectStore,
        run_id: str,
        settings: RunSettings,
        scopes: Scopes,
        shard_size: int,
        pool: Executor,
        *,
        max_attempts: int,
    ) -> None:
        self._max_attempts = max_attempts
        self._store = store
        self._run_id = run_id
        self._settings = settings
        self._scopes = scopes
        self._pool = pool
        self._writer = PlanWriter(store, run_id, shard_size, pool)
        self._live = LivePictures(store)
        self._history = History(store, frozenset(settings.models.values()), pool)
        self._kept = KeptConditions(store, run_id, scopes)
        self._model_of = settings.models
        self._rejected: list[pa.Table] = []
        self._reasons: list[pd.Series[int]] = []
        self._rejected_rows = 0
        self._usable = 0
        self._products: Counter[str] = Counter()
        self._unchanged: Counter[str] = Counter()
        self._planned: Counter[str] = Counter()

    def plan(self, catalog: Catalog) -> Planned:
        """Write shards and rejected rows. Raises CatalogError if no row is good; nothing is written then."""
        for checked in catalog.stream():
            if self._walk(checked, catalog):
                break
        if not self._usable:
            raise no_good_row(catalog.uri, self._rejected_rows, self._reasons)
        shards = self._writer.finish()
        rejected = pa.concat_tables([_COMPACT_REJECTED.empty_table(), *self._rejected])
        data = parquet_bytes(conform(rejected, REJECTED_ROWS, "the rejected rows"))
        self._store.put(rejected_rows_key(self._run_id), data, content_type=PARQUET)
        by_category = {"products": self._products, "unchanged": self._unchanged, "planned": self._planned}
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

    def _walk(self, checked: CheckedTable, catalog: Catalog) -> bool:
        """Take one batch; True when the limit is reached, and the rows behind it count for nothing."""
        good = checked.good.assign(image_condition=self._choose_models(checked.good))
        known = good["image_condition"].notna() | good["category"].isin(self._scopes[None].categories)
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

    def _choose_models(self, products: pd.DataFrame) -> "pd.Series[Any]":
        """What each product is drawn from: its layout, else its sketch, where a model can; None otherwise."""
        # Not of None: pandas would make it NaN.
        chosen = pd.Series([None] * len(products), index=products.index, dtype=object)
        for kind in ("sketch", "layout"):
            if (scope := self._scopes.get(kind)) is not None:
                has = products[CONDITION_COLUMNS[kind]].notna() & products["category"].isin(scope.categories)
                chosen[has] = kind
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
        """Write the slots of products, and return those that cannot be drawn after all, set aside.

        With `are_kept` the condition files lie in the store already.
        """
        skus = pa.array(frame["sku"], pa.large_string())
        image_conditions = frame["image_condition"].to_list()
        products = _Products(
            frame=frame,
            conditions=conditions,
            image_conditions=image_conditions,
            models=pa.array([self._model_of[kind] for kind in image_conditions], pa.large_string()),
            wanted=frame["images_wanted"].to_numpy("int64"),
            skus=skus,
            hashes=hash_strings(skus),
            fingerprints=pa.array(_fingerprints(frame, conditions), pa.large_string()),
        )
        slots = self._choose(products)
        bad = {} if are_kept else self._keep_conditions(products, slots, catalog)
        usable, hashed, rejected = take_out(bad, frame, conditions)
        if bad:  # chosen is anew, of what is left
            if len(usable):
                self._plan_products(usable, hashed, catalog, are_kept=True)
            return rejected
        category = frame["category"].to_numpy()
        self._usable += len(frame)
        self._products.update(category)
        planned = Counter(category[slots.product])
        self._planned.update(planned)
        self._unchanged.update(np.repeat(category, products.wanted))
        self._unchanged.subtract(planned)
        if len(slots.product):
            table = self._table(products, slots)
            for name, kind in sorted(_kinds(table), key=str):
                of_kind = pc.equal(pc.fill_null(table["image_condition"], ""), kind or "")
                of_both = pc.and_(pc.equal(table["category"], name), of_kind)
                self._writer.add((name, kind), table.filter(of_both))
        return rejected

    def _keep_conditions(self, products: _Products, slots: _Slots, catalog: Catalog) -> dict[int, Problem]:
        """Keep the files that planned slots are drawn from; column and reason of each product that has none.

        Of a product whose pictures all stay nothing is kept: what they were drawn from lies in the store.
        """
        wanted: dict[int, tuple[ImageCondition, str, str]] = {}
        for position in np.unique(slots.product).tolist():
            if (kind := products.image_conditions[position]) is not None:
                uri = products.frame[CONDITION_COLUMNS[kind]].iloc[position]
                wanted[position] = (kind, uri, products.conditions[position][kind])
        return self._kept.keep_all(wanted, catalog, self._pool)

    def _choose(self, products: _Products) -> _Slots:
        """The slots that the mode wants to be made."""
        live = self._live
        mine, rows = live.of(products.skus, products.hashes)
        index = live.image_index[rows]
        first_slot = np.cumsum(products.wanted) - products.wanted
        is_planned = np.ones(int(products.wanted.sum()), dtype=bool)
        is_wanted = index < products.wanted[mine]
        if self._settings.mode != "all":
            same = pc.equal(
                live.fingerprints.take(pa.array(rows)), products.fingerprints.take(pa.array(mine))
            )
            keep = is_wanted & same.to_numpy(zero_copy_only=False).astype(bool)
            if self._settings.mode == "refresh":
                by_model = pc.equal(live.models.take(pa.array(rows)), products.models.take(pa.array(mine)))
                keep &= by_model.to_numpy(zero_copy_only=False).astype(bool)
            is_planned[first_slot[mine[keep]] + index[keep]] = False
        product = np.repeat(np.arange(len(products.wanted)), products.wanted)
        image_index = np.arange(len(product)) - first_slot[product]
        of_product = np.bincount(product[is_planned], minlength=len(products.wanted))
        is_replaced = np.zeros(len(mine), dtype=bool)
        is_replaced[is_wanted] = is_planned[first_slot[mine[is_wanted]] + index[is_wanted]]
        return _Slots(
            product=product[is_planned],
            image_index=image_index[is_planned].astype(np.int32),
            kept=products.wanted - of_product,
            live_product=mine,
            live_row=rows,
            has_sibling=of_product[mine] > is_replaced,
        )

    def _table(self, products: _Products, slots: _Slots) -> pa.Table:
        """The slots with the columns of PLAN."""
        frame = products.frame
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
        rows = row_hashes(products.fingerprints, products.models)[slots.product]
        first = self._history.first_attempts(products.hashes[slots.product], slots.image_index, rows)
        table = (
            table.append_column("image_index", pa.array(slots.image_index))
            .append_column("images_kept", pa.array(slots.kept[slots.product]))
            .append_column("first_attempt", pa.array(first))
            .append_column("attempts", pa.repeat(self._max_attempts, len(first)))
            .append_column("review_p_real", pa.nulls(len(first), pa.float64()))
            .append_column("sibling_phashes", self._sibling_phashes(slots))
        )
        return conform(table, PLAN, "the plan")

    def _sibling_phashes(self, slots: _Slots) -> pa.Array:
        """For each slot the perceptual hashes of its product's live pictures at other image indices."""
        of_product: dict[int, list[tuple[int, str]]] = {}
        rows = slots.live_row[slots.has_sibling]
        owners = slots.live_product[slots.has_sibling]
        run_ids = self._live.run_ids.take(pa.array(rows))
        for run_id in run_ids.unique().to_pylist():
            of_run = np.flatnonzero(pc.equal(run_ids, run_id).to_numpy(zero_copy_only=False))
            phashes = self._history.phashes(run_id, self._live.image_ids.take(pa.array(rows[of_run])))
            for position, phash in zip(of_run, phashes.to_pylist(), strict=True):
                if phash is not None:
                    index = int(self._live.image_index[rows[position]])
                    of_product.setdefault(int(owners[position]), []).append((index, phash))
        lists: list[list[str]] = [[] for _ in slots.product]
        if of_product:
            for slot, (product, index) in enumerate(zip(slots.product, slots.image_index, strict=True)):
                siblings = sorted(of_product.get(int(product), ()))
                lists[slot] = [phash for other, phash in siblings if other != index]
        return pa.array(lists, pa.list_(pa.string()))


def _kinds(slots: pa.Table) -> set[Kind]:
    return set(zip(slots["category"].to_pylist(), slots["image_condition"].to_pylist(), strict=True))


def _fingerprints(frame: pd.DataFrame, conditions: Sequence[Mapping[str, str]]) -> list[str]:
    columns = [frame[name].to_list() for name in FINGERPRINTED]
    return [
        row_fingerprint(dict(zip(FINGERPRINTED, values, strict=True)), files)
        for *values, files in zip(*columns, conditions, strict=True)
    ]


def _pairs(maps: Iterable[Mapping[str, str] | None]) -> list[list[tuple[str, str]] | None]:
    return [None if each is None else list(each.items()) for each in maps]
