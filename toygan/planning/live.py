"""What a plan has to know of earlier runs: live pictures, their perceptual hashes, attempts already made.

Rows are found by 64-bit hashes in sorted arrays, a whole batch at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from catalog_schemas.images import APPROVED, CURRENT, IMAGES
from catalog_schemas.runs import Manifest
from catalog_schemas.validation import hash_strings, read_parquet_bytes
from toygan.errors import ObjectNotFound
from toygan.storage.keys import CURRENT_KEY, RUNS_PREFIX, metadata_prefix
from toygan.storage.store import ObjectStore

Positions = NDArray[np.int64]
Hashes = NDArray[np.uint64]

_T = TypeVar("_T")

_PHASHES = pa.schema([("image_id", pa.large_string()), ("phash", pa.large_string())])
_MODEL = ("model_name", "model_version")
_LIVE_COLUMNS = ("sku", "image_index", "image_id", "model_name", "model_version", "row_fingerprint", "run_id")
_INDEX_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd: different image indices never give the same product


def equal_hashes(ordered: Hashes, wanted: Hashes) -> tuple[Positions, Positions]:
    """All pairs (position in `wanted`, position in `ordered`) of equal hashes, sorted by the former."""
    first = np.searchsorted(ordered, wanted, "left")
    counts = np.searchsorted(ordered, wanted, "right") - first
    mine = np.repeat(np.arange(len(wanted)), counts)
    within = np.arange(len(mine)) - np.repeat(np.cumsum(counts) - counts, counts)
    return mine, np.repeat(first, counts) + within


class LivePictures:
    """`current.parquet`, found by sku."""

    def __init__(self, store: ObjectStore) -> None:
        try:
            table = read_parquet_bytes(store.get(CURRENT_KEY), CURRENT, CURRENT_KEY, _LIVE_COLUMNS)
        except ObjectNotFound:
            table = CURRENT.empty_table().select(_LIVE_COLUMNS)
        hashes = hash_strings(_joined(table["sku"]))
        order = np.argsort(hashes, kind="stable")
        table = table.take(pa.array(order))
        self._hashes: Hashes = hashes[order]
        self._skus = _joined(table["sku"])
        self.fingerprints = _joined(table["row_fingerprint"])
        self.image_ids = _joined(table["image_id"])
        self.run_ids = table["run_id"].combine_chunks().dictionary_encode()
        self.image_index: NDArray[np.int32] = table["image_index"].to_numpy()
        self.models = _models(table)

    def of(self, skus: pa.Array, hashes: Hashes) -> tuple[Positions, Positions]:
        """All pairs (position in `skus`, row of the live table) of a sku; `hashes` are those of `skus`."""
        mine, rows = equal_hashes(self._hashes, hashes)
        same = pc.equal(skus.take(pa.array(mine)), self._skus.take(pa.array(rows)))
        mask = same.to_numpy(zero_copy_only=False).astype(bool)
        return mine[mask], rows[mask]


@dataclass(frozen=True, kw_only=True)
class _Attempts:
    """The largest attempt of each (sku, image index, fingerprint, model), in the order of `slots`."""

    slots: Hashes
    rows: Hashes  # of fingerprint and model together
    largest: NDArray[np.int32]


class History:
    """The finished runs of a store. Nothing is read before it is asked for, and no column in vain."""

    def __init__(self, store: ObjectStore, models: frozenset[str], pool: Executor) -> None:
        self._store = store
        self._models = models
        self._pool = pool
        self._phashes: dict[str, pa.Table] = {}

    def first_attempts(self, skus: Hashes, image_index: NDArray[np.int32], rows: Hashes) -> NDArray[np.int32]:
        """Per slot the attempt (0-based) to begin with: one after the largest that a finished run recorded.

        Recorded under the same sku, image index, fingerprint and model. `skus` and `rows`, which is
        `row_hashes` of the two others, are compared by 64-bit hashes each: should both collide, a slot skips
        some attempts and stays as reproducible as before.
        """
        known = self._attempts
        mine, found = equal_hashes(known.slots, slot_hashes(skus, image_index))
        same = known.rows[found] == rows[mine]
        first = np.zeros(len(skus), dtype=np.int32)
        first[mine[same]] = known.largest[found[same]] + 1
        return first

    def phashes(self, run_id: str, image_ids: pa.Array) -> pa.Array:
        """The perceptual hash of each picture that the run approved; null where its metadata knows none."""
        if run_id not in self._phashes:
            self._phashes[run_id] = self._read_phashes(run_id)
        known = self._phashes[run_id]
        return known["phash"].take(pc.index_in(image_ids, value_set=known["image_id"]))

    def _read_phashes(self, run_id: str) -> pa.Table:
        def approved(part: pa.Table) -> pa.Table:
            return part.filter(pc.equal(part["decision"], APPROVED)).select(["image_id", "phash"])

        empty = IMAGES.empty_table().select(["image_id", "phash"])
        parts = self._read_parts(run_id, ("image_id", "decision", "phash"), approved)
        return pa.concat_tables([empty, *parts]).cast(_PHASHES).combine_chunks()

    @cached_property
    def _attempts(self) -> _Attempts:
        def hashed(part: pa.Table) -> tuple[Hashes, Hashes, NDArray[np.int32]]:
            slots = slot_hashes(hash_strings(_joined(part["sku"])), part["image_index"].to_numpy())
            rows = row_hashes(_joined(part["row_fingerprint"]), _models(part))
            return slots, rows, part["attempt"].to_numpy()

        columns = ("sku", "image_index", "row_fingerprint", "attempt", *_MODEL)
        none = (np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int32))
        parts = [
            part for run_id in self._finished_runs() for part in self._read_parts(run_id, columns, hashed)
        ]
        slot, row, attempt = (np.concatenate(each) for each in zip(none, *parts, strict=True))
        order = np.lexsort((attempt, row, slot))
        slot, row, attempt = slot[order], row[order], attempt[order]
        is_last = np.ones(len(slot), dtype=bool)
        is_last[:-1] = (slot[1:] != slot[:-1]) | (row[1:] != row[:-1])
        return _Attempts(slots=slot[is_last], rows=row[is_last], largest=attempt[is_last])

    def _finished_runs(self) -> list[str]:
        """The ids of the runs with a manifest that used one of these models."""
        keys = [info.key for info in self._store.list(RUNS_PREFIX) if info.key.endswith(".json")]
        manifests = self._pool.map(lambda key: Manifest.from_json(self._store.get(key), key), keys)
        return [found.run_id for found in manifests if self._models.intersection(found.all_models)]

    def _read_parts(
        self, run_id: str, columns: Sequence[str], reduce: Callable[[pa.Table], _T]
    ) -> Iterator[_T]:
        """`reduce` of some columns of each part of a run, in order; it runs in the pool's threads."""
        keys = [info.key for info in self._store.list(metadata_prefix(run_id) + "part-")]
        return self._pool.map(
            lambda key: reduce(read_parquet_bytes(self._store.get(key), IMAGES, key, columns)), keys
        )


def slot_hashes(skus: Hashes, image_index: NDArray[np.int32]) -> Hashes:
    """One hash a slot from that of its sku."""
    return skus + image_index.astype(np.uint64) * _INDEX_FACTOR


def row_hashes(fingerprints: pa.Array, models: pa.Array) -> Hashes:
    """One hash for a row's fingerprint and the model that draws it."""
    return hash_strings(fingerprints) + hash_strings(models) * _INDEX_FACTOR


def _models(table: pa.Table) -> pa.Array:
    """NAME@VERSION of each row."""
    separator = pa.scalar("@", pa.large_string())
    return pc.binary_join_element_wise(*(_joined(table[name]) for name in _MODEL), separator)


def _joined(column: pa.ChunkedArray) -> pa.Array:
    """A column of strings as one array, which may hold more than 2 GiB."""
    return column.cast(pa.large_string()).combine_chunks()
