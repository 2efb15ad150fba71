"""Finds the live pictures of products for a plan, with their row, model and perceptual hash.

Rows are found by 64-bit hashes in sorted arrays, one batch at a time.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from catalog_schemas.images import MACHINE
from catalog_schemas.validation import hash_strings

Positions = NDArray[np.int64]
Hashes = NDArray[np.uint64]

_MODEL = ("model_name", "model_version")
LIVE_COLUMNS = (
    *("sku", "image_index", "model_name", "model_version", "row_fingerprint", "phash"),
    *("commit", "decided_by"),
)
# an odd number, so that its products with different indices differ
_INDEX_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def equal_hashes(ordered: Hashes, wanted: Hashes) -> tuple[Positions, Positions]:
    """Returns pairs (position in `wanted`, position in `ordered`) of equal hashes, sorted by the first."""
    first = np.searchsorted(ordered, wanted, "left")
    counts = np.searchsorted(ordered, wanted, "right") - first
    mine = np.repeat(np.arange(len(wanted)), counts)
    within = np.arange(len(mine)) - np.repeat(np.cumsum(counts) - counts, counts)
    return mine, np.repeat(first, counts) + within


class LivePictures:
    """`current.parquet`, searchable by sku. `table` has the columns LIVE_COLUMNS of CURRENT."""

    def __init__(self, table: pa.Table) -> None:
        hashes = hash_strings(joined(table["sku"]))
        order = np.argsort(hashes, kind="stable")
        table = table.take(pa.array(order))
        self._hashes: Hashes = hashes[order]
        self._skus = joined(table["sku"])
        self.fingerprints = joined(table["row_fingerprint"])
        self.phashes = joined(table["phash"])
        self.image_index: NDArray[np.int32] = table["image_index"].to_numpy()
        self.models = models_of(table)
        self.commits: NDArray[np.int64] = table["commit"].to_numpy()
        by_machine = pc.equal(joined(table["decided_by"]), MACHINE)
        self.is_by_person: NDArray[np.bool_] = ~by_machine.to_numpy(zero_copy_only=False).astype(bool)

    def __len__(self) -> int:
        return len(self._skus)

    def of(self, skus: pa.Array, hashes: Hashes) -> tuple[Positions, Positions]:
        """Returns all pairs (position in `skus`, row of the live table) of equal skus, given their hashes."""
        mine, rows = equal_hashes(self._hashes, hashes)
        same = pc.equal(skus.take(pa.array(mine)), self._skus.take(pa.array(rows)))
        mask = same.to_numpy(zero_copy_only=False).astype(bool)
        return mine[mask], rows[mask]


def slot_hashes(skus: Hashes, image_index: NDArray[np.int32]) -> Hashes:
    """Returns a hash for each slot, computed from its sku's hash and its image index."""
    return skus + image_index.astype(np.uint64) * _INDEX_FACTOR


def row_hashes(fingerprints: pa.Array, models: pa.Array) -> Hashes:
    """Returns a hash for each pair of row fingerprint and model."""
    return hash_strings(fingerprints) + hash_strings(models) * _INDEX_FACTOR


def models_of(table: pa.Table) -> pa.Array:
    """Returns NAME@VERSION of each row."""
    separator = pa.scalar("@", pa.large_string())
    return pc.binary_join_element_wise(*(joined(table[name]) for name in _MODEL), separator)


def joined(column: pa.ChunkedArray) -> pa.Array:
    """Returns a column of strings as one array, which may hold more than 2 GiB."""
    return column.cast(pa.large_string()).combine_chunks()
