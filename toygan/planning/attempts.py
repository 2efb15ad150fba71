"""Records the number of attempts at each picture, whether they are used up, and the best candidate for
review.

There is one table for all finished runs, `state/attempts.parquet`, with a row for each sku, image index, row
fingerprint and model. A merge takes the largest values, so runs may be merged in any order and repeatedly.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from catalog_schemas.images import APPROVED, ATTEMPT_KEYS, ATTEMPTS, REVIEW
from catalog_schemas.validation import hash_strings, read_parquet_bytes
from toygan.errors import BadInput, ObjectNotFound
from toygan.planning.live import Hashes, equal_hashes, joined, models_of, row_hashes, slot_hashes
from toygan.storage.keys import ATTEMPTS_KEY
from toygan.storage.store import ObjectStore

FROM_PARTS = (
    *("sku", "image_index", "row_fingerprint", "model_name", "model_version"),
    *("attempt", "decision", "image_uri", "p_real"),
)
_KEYS = list(ATTEMPT_KEYS)


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """The results of earlier runs for each of S slots."""

    attempts: NDArray[np.int32]
    exhausted: NDArray[np.bool_]
    review_p_real: NDArray[np.float64]  # NaN if no candidate is in review/
    # the commit number of the last run that made an attempt; 0 if there is no such run
    commit: NDArray[np.int64]


class History:
    """The table ATTEMPTS, searchable by slot and row. The first query calls `read`, which returns it."""

    def __init__(self, read: Callable[[], pa.Table]) -> None:
        self._read = read

    def of(
        self, skus: Hashes, image_index: NDArray[np.int32], rows: Hashes, where: NDArray[np.bool_]
    ) -> Earlier:
        """Returns the results of finished runs for the slots selected by `where`.

        Results belong to a slot if sku, image index, fingerprint and model are equal. `skus` and `rows` are
        compared by 64-bit hashes; `rows` is `row_hashes` of fingerprint and model.
        """
        earlier = Earlier(
            attempts=np.zeros(len(skus), np.int32),
            exhausted=np.zeros(len(skus), bool),
            review_p_real=np.full(len(skus), np.nan),
            commit=np.zeros(len(skus), np.int64),
        )
        asked = np.flatnonzero(where)
        if len(asked):
            order, slots, known_rows, known = self._sorted
            mine, found = equal_hashes(slots, slot_hashes(skus[asked], image_index[asked]))
            mine = asked[mine]
            same = known_rows[found] == rows[mine]
            mine, found = mine[same], order[found[same]]
            earlier.attempts[mine] = known.attempts[found]
            earlier.exhausted[mine] = known.exhausted[found]
            earlier.review_p_real[mine] = known.review_p_real[found]
            earlier.commit[mine] = known.commit[found]
        return earlier

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.int64], Hashes, Hashes, Earlier]:
        table = self._read()
        slots = slot_hashes(hash_strings(joined(table["sku"])), table["image_index"].to_numpy())
        rows = row_hashes(joined(table["row_fingerprint"]), joined(table["model"]))
        order = np.argsort(slots, kind="stable")
        known = Earlier(
            attempts=table["attempts"].to_numpy(),
            exhausted=table["exhausted"].to_numpy(),
            review_p_real=table["review_p_real"].to_numpy(),
            commit=table["commit"].to_numpy(),
        )
        return order, slots[order], rows[order], known


def read_attempts(store: ObjectStore) -> pa.Table:
    """Returns the table, or an empty table if there is none; raises TableError if it is damaged."""
    try:
        return parse_attempts(store.get(ATTEMPTS_KEY))
    except ObjectNotFound:
        return ATTEMPTS.empty_table()


def parse_attempts(data: bytes) -> pa.Table:
    """Parses the output of write_attempts; raises BadInput for anything else."""
    try:
        return read_parquet_bytes(data, ATTEMPTS, ATTEMPTS_KEY)
    except ValueError as error:
        raise BadInput(f"{error}; remove it; the next run makes it again from the metadata") from error


def attempts_of(part: pa.Table, commit: int) -> pa.Table:
    """Returns the attempts in a part as a table of ATTEMPTS. The part needs the columns FROM_PARTS of IMAGES.

    `commit` is the commit number of the run.
    """
    is_review = pc.equal(part["decision"], REVIEW)
    none = pa.scalar(None, pa.string())
    rows = pa.table(
        {
            "sku": part["sku"],
            "image_index": part["image_index"],
            "row_fingerprint": part["row_fingerprint"],
            "model": models_of(part).cast(pa.string()),
            "attempts": pc.add(part["attempt"], pa.scalar(1, pa.int32())),
            "exhausted": pc.not_equal(part["decision"], APPROVED),
            "commit": pa.repeat(pa.scalar(commit, pa.int64()), part.num_rows),
            "review_uri": pc.if_else(is_review, part["image_uri"], none),
            "review_p_real": pc.if_else(is_review, part["p_real"], pa.scalar(None, pa.float64())),
        }
    )
    return merge_attempts([rows])


def merge_attempts(tables: Iterable[pa.Table]) -> pa.Table:
    """Merges the tables to one row for each value of ATTEMPT_KEYS.

    The last attempt decides whether the attempts are used up.
    """
    rows = pa.concat_tables([ATTEMPTS.empty_table(), *tables], promote_options="permissive")
    # Two runs may have made the same attempt at the same time. Then the result of an approved attempt is
    # kept.
    two = pa.scalar(2, pa.int32())
    is_approved = pc.cast(pc.invert(rows["exhausted"]), pa.int32())
    ranked = rows.append_column("rank", pc.add(pc.multiply(rows["attempts"], two), is_approved))
    last = ranked.group_by(_KEYS).aggregate([("rank", "max"), ("commit", "max")])
    last = last.rename_columns({"commit_max": "commit"})
    rank = last["rank_max"].to_numpy()
    last = last.drop_columns(["rank_max"])
    last = last.append_column("attempts", pa.array((rank // 2).astype(np.int32)))
    last = last.append_column("exhausted", pa.array(rank % 2 == 0))
    review = rows.filter(pc.is_valid(rows["review_uri"])).sort_by(
        [("review_p_real", "descending"), ("review_uri", "ascending")]
    )
    best = review.group_by(_KEYS, use_threads=False).aggregate(
        [("review_uri", "first"), ("review_p_real", "first")]
    )
    best = best.rename_columns([name.removesuffix("_first") for name in best.column_names])
    merged = last.join(best, _KEYS, join_type="left outer").select(ATTEMPTS.names)
    return merged.cast(ATTEMPTS).sort_by([(name, "ascending") for name in _KEYS])
