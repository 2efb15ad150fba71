"""Writes the shards of a plan while the catalog is being read."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import pyarrow as pa

from catalog_schemas.runs import PLAN
from catalog_schemas.validation import conform, parquet_bytes
from toygan.conditions.condition_types import ImageCondition
from toygan.errors import BadInput, Conflict
from toygan.storage.keys import plan_key, plan_manifest_key
from toygan.storage.store import PARQUET, ObjectStore
from toygan.storage.update import read_stored

Kind = tuple[str, ImageCondition | None]  # a category, and the image condition of its model

# A kind with more slots gets its own shards. For a kind with few slots, the requests for a separate shard
# would be about as many as those for its pictures.
FEW_SLOTS = 8
# the largest number of shards that are being encoded or uploaded at a time, which limits the memory
_MOST_WAITING = 32


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One task of the run: pictures of one category by one model, or of several kinds that have few slots.

    `categories` are sorted. `sha256` is that of the shard's file in the plan.
    """

    categories: tuple[str, ...]
    slots: int
    sha256: str


class PlanWriter:
    """Collects slots by kind and writes a shard whenever one is full.

    A shard holds at most `shard_size` slots. All slots of a product are in the same shard. Kinds that have at
    most FEW_SLOTS slots in the whole plan share shards.
    """

    def __init__(self, store: ObjectStore, run_id: str, shard_size: int, pool: Executor) -> None:
        self._store = store
        self._run_id = run_id
        self._shard_size = shard_size
        self._pool = pool
        self._collected: dict[Kind, list[pa.Table]] = {}
        self._numbers: list[tuple[tuple[str, ...], int]] = []
        self._has_shard: set[Kind] = set()
        self._waiting: deque[Future[str]] = deque()
        self._digests: list[str] = []

    def add(self, kind: Kind, slots: pa.Table) -> None:
        """Adds slots (columns of PLAN) of one kind, in the order of the catalog's rows."""
        collected = self._collected.setdefault(kind, [])
        collected.append(slots)
        if sum(table.num_rows for table in collected) < self._shard_size:
            return
        rest = pa.concat_tables(collected)
        rows = rest["row"].to_numpy()
        start = 0
        while len(rows) - start >= self._shard_size:
            end = start + self._shard_size
            if end < len(rows):  # a product whose slots do not all fit goes to the next shard
                end = int(np.searchsorted(rows, rows[end], "left"))
            self._write([kind], rest.slice(start, end - start))
            start = end
        # A copy, because a slice would keep the whole table in memory.
        self._collected[kind] = [rest.take(np.arange(start, len(rows)))]

    def finish(self) -> tuple[Shard, ...]:
        """Writes the remaining slots and waits until every shard is in the store."""
        for kinds in self._shares():
            slots = pa.concat_tables([table for kind in kinds for table in self._collected[kind]])
            if len(kinds) > 1:
                slots = slots.sort_by([("row", "ascending"), ("image_index", "ascending")])
            self._write(kinds, slots)
        self._collected = {}
        while self._waiting:
            self._digests.append(self._waiting.popleft().result())
        return tuple(
            Shard(categories=categories, slots=slots, sha256=digest)
            for (categories, slots), digest in zip(self._numbers, self._digests, strict=True)
        )

    def _shares(self) -> list[list[Kind]]:
        """Groups the kinds that still have slots. Each group becomes one shard."""
        shares: list[list[Kind]] = []
        open_share: list[Kind] = []
        taken = self._shard_size
        for kind in sorted(self._collected, key=lambda kind: (kind[0], kind[1] or "")):
            size = sum(table.num_rows for table in self._collected[kind])
            if not size:
                continue
            if size > FEW_SLOTS or kind in self._has_shard:
                shares.append([kind])
                continue
            if taken + size > self._shard_size:
                open_share, taken = [], 0
                shares.append(open_share)
            open_share.append(kind)
            taken += size
        return shares

    def _write(self, kinds: Sequence[Kind], slots: pa.Table) -> None:
        number = len(self._numbers)
        try:
            key = plan_key(self._run_id, number)
        except BadInput as error:
            raise BadInput(f"the plan has too many pictures for one run ({error}); use --limit") from None
        categories = tuple(sorted({category for category, _ in kinds}))
        self._numbers.append((categories, slots.num_rows))
        self._has_shard.update(kinds)
        if len(self._waiting) >= _MOST_WAITING:
            self._digests.append(self._waiting.popleft().result())
        self._waiting.append(self._pool.submit(self._put, key, slots))

    def _put(self, key: str, slots: pa.Table) -> str:
        data = parquet_bytes(conform(slots, PLAN, key))
        put_unless_frozen(self._store, self._run_id, key, data)
        return sha256(data).hexdigest()


def put_unless_frozen(store: ObjectStore, run_id: str, key: str, data: bytes) -> None:
    """Writes a table of a plan. It replaces that of an earlier start, which died before its plan was frozen.

    Raises Conflict if another process has frozen a plan of this run id meanwhile, or is writing the table.
    """
    try:
        store.put_if(key, data, None, content_type=PARQUET)
    except Conflict:
        content, version = read_stored(store, key)
        if content == data:
            return
        if store.exists(plan_manifest_key(run_id)):
            raise
        store.put_if(key, data, version, content_type=PARQUET)
