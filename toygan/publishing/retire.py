"""Retires the pictures of products that left the catalog: their rows leave `current.parquet`.

A run writes what it retires as one table of DECISIONS, `retired/<run_id>.parquet`, before it changes the live
table. The files stay for 30 days. After that, `toygan verify --prune` removes them.
"""

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog_schemas.decisions import APPROVE, DECISIONS, RETIRE, read_decisions, write_decisions
from catalog_schemas.images import APPROVED, CURRENT, MACHINE, OF_CANDIDATE, REVIEW
from catalog_schemas.validation import hash_strings, read_parquet_bytes
from toygan.errors import BadInput, Conflict, ObjectNotFound
from toygan.planning.catalog import open_catalog
from toygan.planning.decisions import stored_decisions
from toygan.planning.live import equal_hashes, joined
from toygan.publishing.commit_log import reserve
from toygan.publishing.decided import merge_into_summaries
from toygan.storage.keys import CURRENT_KEY, retired_key
from toygan.storage.store import PARQUET, ObjectStore

log = logging.getLogger(__name__)

_THREADS = 8


@dataclass(frozen=True, kw_only=True)
class Gone:
    """The live pictures of products that have no row in the catalog."""

    pictures: pa.Table  # rows of CURRENT
    products: int
    live_products: int  # the number of products with live pictures, in the catalog or not

    @property
    def share(self) -> float:
        """The share of the products with live pictures that is not in the catalog."""
        return self.products / self.live_products if self.live_products else 0.0

    def text(self) -> str:
        """Returns one line with the numbers."""
        return (
            f"{self.products:,} of {self.live_products:,} products with live pictures ({self.share:.0%}) "
            "are not in the catalog"
        )


def find_gone(store: ObjectStore, catalog: str, columns: Mapping[str, str]) -> Gone:
    """Compares the live pictures with the skus of all rows of a catalog, including rows that are set aside.

    If a folder of snapshots has a folder that cannot be read, its products are unknown. Then no product
    counts as gone, and the log says so. Raises CatalogError for an unusable catalog.
    """
    try:
        live = read_parquet_bytes(store.get(CURRENT_KEY), CURRENT, CURRENT_KEY)
    except ObjectNotFound:
        live = CURRENT.empty_table()
    hashes = hash_strings(joined(live["sku"]))
    live = live.take(pa.array(np.argsort(hashes, kind="stable")))
    hashes.sort()
    is_present = np.zeros(len(hashes), dtype=bool)
    with open_catalog(catalog, columns) as opened:
        for checked in opened.stream():
            for frame in (checked.good, checked.rejected):
                skus = hash_strings(pa.array(frame["sku"].dropna(), pa.large_string()))
                is_present[equal_hashes(hashes, skus)[1]] = True
        if opened.converted is not None and not opened.converted.is_complete:
            log.warning("no product counts as gone, because a folder in %s cannot be read", catalog)
            is_present[:] = True
    pictures = live.filter(pa.array(~is_present))
    return Gone(
        pictures=pictures,
        products=pc.count_distinct(pictures["sku"]).as_py(),
        live_products=pc.count_distinct(live["sku"]).as_py(),
    )


def check_share(gone: Gone, most: float) -> None:
    """Raises BadInput if more than the share `most` of the products with pictures is gone."""
    if gone.share > most:
        # Rounded up, so that a run with this share succeeds.
        enough = -(-gone.products * 100 // gone.live_products) / 100
        raise BadInput(
            f"{gone.text()}; --retire {most:g} allows fewer. Is the catalog complete? If so, "
            f"run again with --retire {enough:g}"
        )


def retire(store: ObjectStore, run_id: str, gone: Gone) -> int:
    """Takes pictures out of the live table; returns their number. Repeating it changes nothing."""
    key = retired_key(run_id)
    try:
        table = read_decisions(store.get(key), key)
    except ObjectNotFound:
        if not gone.pictures.num_rows:
            return 0
        table = _put(store, key, _table(store, run_id, gone.pictures, reserve(store, key)))
    with ThreadPoolExecutor(_THREADS, "retire") as pool:
        merge_into_summaries(store, {key: table}, pool)
    return int(table.num_rows)


def _put(store: ObjectStore, key: str, table: pa.Table) -> pa.Table:
    try:
        store.put_if(key, write_decisions(table), None, content_type=PARQUET)
    except Conflict:
        return read_decisions(store.get(key), key)
    return table


def _table(store: ObjectStore, run_id: str, pictures: pa.Table, commit: int) -> pa.Table:
    """Returns a row of DECISIONS for each picture."""
    decisions = stored_decisions(store)
    approvals = decisions.filter(pc.equal(decisions["decision"], APPROVE))
    origin = {
        row["image_id"]: (row["machine_decision"], row["run_commit"])
        for row in approvals.select(["image_id", "machine_decision", "run_commit"]).to_pylist()
    }
    now = datetime.now(UTC)

    def row(picture: Mapping[str, Any]) -> dict[str, Any]:
        machine_decision, run_commit = APPROVED, picture["commit"]
        if picture["decided_by"] != MACHINE:
            # the approval is missing if its object is damaged
            machine_decision, run_commit = origin.get(picture["image_id"], (REVIEW, picture["commit"]))
        text = f"{run_id} {picture['image_id']}"
        return {
            "decision_id": sha256(text.encode()).hexdigest()[:32],
            "commit": commit,
            "decision": RETIRE,
            "undoes": None,
            "decided_by": MACHINE,
            "decided_at": now,
            "reason": "not in the catalog",
            **{name: picture[name] for name in OF_CANDIDATE},
            "machine_decision": machine_decision,
            "run_commit": run_commit,
        }

    return pa.Table.from_pylist([row(each) for each in pictures.to_pylist()], schema=DECISIONS)
