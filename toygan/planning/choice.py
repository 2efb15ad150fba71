"""Chooses the slots of a batch of products for which a run makes pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from catalog_schemas.validation import hash_strings
from toygan.conditions.condition_types import ImageCondition
from toygan.planning.attempts import Earlier, History
from toygan.planning.condition_files import Hashed
from toygan.planning.decisions import Wishes, rejected_phashes
from toygan.planning.live import LIVE_COLUMNS, Hashes, LivePictures, Positions, row_hashes
from toygan.planning.pruning import put_mark, read_condemned
from toygan.planning.settings import RunSettings
from toygan.planning.summaries import Summaries
from toygan.storage.keys import condition_key, image_prefix
from toygan.storage.store import ObjectStore


@dataclass(frozen=True, kw_only=True)
class Products:
    """N usable products of a batch."""

    frame: pd.DataFrame  # columns of PRODUCTS
    conditions: Hashed
    image_conditions: Sequence[ImageCondition | None]  # of each product's model
    models: pa.Array  # NAME@VERSION of each product's model
    wanted: NDArray[np.int64]  # the number of pictures that each product wants
    skus: pa.Array
    hashes: Hashes  # the hashes of the skus
    fingerprints: pa.Array


@dataclass(frozen=True, kw_only=True)
class Slots:
    """The S planned slots of a batch of products, in the order of products and image indices."""

    product: Positions
    image_index: NDArray[np.int32]
    earlier: Earlier  # the earlier attempts at each slot
    kept: NDArray[np.int64]  # for each product, the number of its live pictures that stay
    asked: NDArray[np.bool_]  # whether a person asked for another picture in the slot
    exhausted: Positions  # for each exhausted slot, the position of its product
    deferred: Positions  # for each slot that waits for the next run, the position of its product
    refreshed: int  # the number of planned slots that replace the live picture of another model
    live_product: Positions  # for each live picture of the batch's products, the position of its product
    live_row: Positions  # for each of these pictures, its row in the live table
    # for each of these pictures, whether another slot of its product is planned
    has_sibling: NDArray[np.bool_]


class Chooser:
    """Compares products with the live pictures and with the attempts of earlier runs."""

    def __init__(self, store: ObjectStore, run_id: str, settings: RunSettings, summaries: Summaries) -> None:
        self._store = store
        self._run_id = run_id
        self._settings = settings
        self._live = LivePictures(summaries.live_table(LIVE_COLUMNS))
        self._history = History(summaries.attempts_table)
        decisions = summaries.decisions_table()
        self._wishes = Wishes(decisions)
        self._rejected = rejected_phashes(decisions)
        self._refresh_left = ceil(settings.refresh_share * len(self._live))

    def note(self, slots: Slots) -> None:
        """Records that `slots` are planned. Their number counts towards the limit of a refresh."""
        self._refresh_left -= slots.refreshed

    def choose(self, products: Products) -> Slots:
        """Chooses the slots that the mode or a person asks for, without exhausted and deferred ones."""
        mine, rows = self._live.of(products.skus, products.hashes)
        index = self._live.image_index[rows]
        first_slot = np.cumsum(products.wanted) - products.wanted
        product = np.repeat(np.arange(len(products.wanted)), products.wanted)
        image_index = (np.arange(len(product)) - first_slot[product]).astype(np.int32)
        is_wanted = index < products.wanted[mine]
        live_slot = first_slot[mine[is_wanted]] + index[is_wanted]
        is_kept, is_stale = self._compare(products, mine[is_wanted], rows[is_wanted], live_slot, len(product))
        is_planned = ~is_kept | is_stale
        live_commit = np.zeros(len(product), np.int64)
        live_commit[live_slot] = self._live.commits[rows[is_wanted]]
        redraw, rejection = self._wishes.of(
            products.hashes[product], image_index, hash_strings(products.fingerprints)[product]
        )
        models = row_hashes(products.fingerprints, products.models)[product]
        wanted = is_planned | (redraw > live_commit)
        earlier = self._history.of(products.hashes[product], image_index, models, where=wanted)
        # A redraw or a rejection is settled by a later attempt, or by a person's later approval of a picture.
        is_asked = np.maximum(redraw, rejection) > np.maximum(earlier.commit, live_commit * is_kept)
        is_planned |= wanted & is_asked & (redraw > live_commit)
        is_deferred = is_planned & self._is_pruned(products)[product]
        is_planned &= ~is_deferred
        is_exhausted = np.zeros(len(product), dtype=bool)
        if self._settings.mode in ("missing", "refresh"):
            is_exhausted = is_planned & earlier.exhausted & ~is_asked
            is_planned &= ~is_exhausted
        refreshed = np.flatnonzero(is_planned & is_stale & ~is_asked)
        is_planned[refreshed[self._refresh_left :]] = False
        of_product = np.bincount(product[is_planned], minlength=len(products.wanted))
        is_replaced = np.zeros(len(mine), dtype=bool)
        is_replaced[is_wanted] = is_planned[live_slot]
        return Slots(
            product=product[is_planned],
            image_index=image_index[is_planned],
            earlier=Earlier(
                attempts=earlier.attempts[is_planned],
                exhausted=earlier.exhausted[is_planned],
                # The person who asks has seen the candidate in review/ and wants another one.
                review_p_real=np.where(is_asked, np.nan, earlier.review_p_real)[is_planned],
                commit=earlier.commit[is_planned],
            ),
            asked=is_asked[is_planned],
            kept=np.bincount(product[is_kept & ~is_planned], minlength=len(products.wanted)),
            exhausted=product[is_exhausted & ~is_kept],
            deferred=product[is_deferred & ~is_kept],
            refreshed=min(len(refreshed), self._refresh_left),
            live_product=mine,
            live_row=rows,
            has_sibling=of_product[mine] > is_replaced,
        )

    def _compare(
        self, products: Products, mine: Positions, rows: Positions, slots: Positions, total: int
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Says which of `total` slots have a live picture that may stay, and which of these to refresh.

        `rows` are the rows of the live table for the products `mine` at `slots`.
        """
        is_kept, is_stale = np.zeros(total, dtype=bool), np.zeros(total, dtype=bool)
        live = self._live
        keep = _equal(live.fingerprints, rows, products.fingerprints, mine)
        by_model = _equal(live.models, rows, products.models, mine)
        if self._settings.mode == "all":
            # A person's approval is valid until the row or the model changes.
            keep &= by_model & live.is_by_person[rows]
        is_kept[slots[keep]] = True
        if self._settings.mode == "refresh":
            is_stale[slots[keep & ~by_model]] = True
        return is_kept, is_stale

    @cached_property
    def _condemned(self) -> frozenset[str]:
        """The keys that `verify --prune` is removing. They are read when the first product is planned."""
        put_mark(self._store, self._run_id)
        return read_condemned(self._store, self._run_id)

    def _is_pruned(self, products: Products) -> NDArray[np.bool_]:
        """Whether each product waits for the next run, because `verify --prune` is removing its files."""
        if not self._condemned:
            return np.zeros(len(products.wanted), dtype=bool)
        folders = {key.rpartition("/")[0] + "/" for key in self._condemned}
        places = zip(products.frame["category"], products.frame["sku"], strict=True)
        return np.array(
            [
                image_prefix(category, sku) in folders
                or any(condition_key(digest) in self._condemned for digest in files.values())
                for (category, sku), files in zip(places, products.conditions, strict=True)
            ],
            dtype=bool,
        )

    def sibling_phashes(self, products: Products, slots: Slots) -> pa.Array:
        """Returns for each of S slots the perceptual hashes that its picture must not resemble: (S,) lists.

        These are the hashes of its product's live pictures at other indices, and of its product's rejected
        pictures at all indices. The seed of a picture does not depend on the row. So after a change of the
        row, an attempt makes the picture of an earlier attempt again.
        """
        of_product: dict[int, list[tuple[int, str]]] = {}
        rows = slots.live_row[slots.has_sibling]
        owners = slots.live_product[slots.has_sibling]
        phashes = self._live.phashes.take(pa.array(rows)).to_pylist()
        for owner, row, phash in zip(owners.tolist(), rows.tolist(), phashes, strict=True):
            of_product.setdefault(owner, []).append((int(self._live.image_index[row]), phash))
        lists: list[list[str]] = [[] for _ in slots.product]
        if of_product or self._rejected:
            skus = products.skus.take(pa.array(slots.product)).to_pylist()
            for slot, (product, index) in enumerate(zip(slots.product, slots.image_index, strict=True)):
                siblings = sorted(of_product.get(int(product), ()))
                lists[slot] = [phash for other, phash in siblings if other != index]
                lists[slot] += self._rejected.get(skus[slot], ())
        return pa.array(lists, pa.list_(pa.string()))


def _equal(left: pa.Array, left_rows: Positions, right: pa.Array, right_rows: Positions) -> NDArray[np.bool_]:
    same = pc.equal(left.take(pa.array(left_rows)), right.take(pa.array(right_rows)))
    return np.asarray(same.to_numpy(zero_copy_only=False), dtype=bool)
