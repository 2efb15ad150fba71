"""Retires pictures that the catalog no longer asks for: their rows leave `current.parquet`.

These are the pictures of products that left the catalog, and surplus pictures. A picture is surplus if its
product wants fewer pictures, its row has changed, and the product has a live picture of the new row. A run
writes what it retires as one table of DECISIONS, `retired/<run_id>.parquet`, before it changes the live
table. The files stay for 30 days. After that, `toygan verify --prune` removes them.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from catalog_schemas.decisions import APPROVE, DECISIONS, RETIRE, read_decisions, write_decisions
from catalog_schemas.images import APPROVED, CURRENT, MACHINE, OF_CANDIDATE, REVIEW, SLOT
from catalog_schemas.validation import hash_strings, read_parquet_bytes
from toygan.errors import BadInput, Conflict, ObjectNotFound
from toygan.planning.catalog import open_catalog
from toygan.planning.decisions import stored_decisions
from toygan.planning.live import equal_hashes, joined
from toygan.planning.rows import read_rows
from toygan.planning.summaries import Summaries
from toygan.publishing.commit_log import reserve
from toygan.publishing.decided import merge_into_summaries
from toygan.storage.keys import CURRENT_KEY, retired_key
from toygan.storage.store import PARQUET, ObjectStore

log = logging.getLogger(__name__)

# the reasons why a picture is retired
NOT_IN_CATALOG = "not in the catalog"
SURPLUS = "of an older row, and beyond the number of pictures wanted"

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

    If a quote of a row is never closed, or a folder of snapshots has a folder that cannot be read, products
    are unknown. Then no product counts as gone, and the log says so. Raises CatalogError for an unusable
    catalog.
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
            log.warning("no product counts as gone, because a part of %s cannot be read", catalog)
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


def find_surplus(
    summaries: Summaries, catalog: str, columns: Mapping[str, str], images_per_product: int
) -> pd.DataFrame:
    """Finds the live pictures beyond the number that their products want, of rows that have changed since.

    Returns the columns of CURRENT, and the fingerprint of the catalog's row as `new_fingerprint`. Raises
    CatalogError for an unusable catalog.
    """
    slots = summaries.live_table(SLOT)
    # Every product wants at least one picture, so the first is never beyond the number.
    slots = slots.filter(pc.greater(slots["image_index"], 0))
    rows = read_rows(catalog, columns, images_per_product, slots, are_wanted=False)
    rows = rows.rename(columns={"row_fingerprint": "new_fingerprint"})
    found = _live_of(rows, summaries, CURRENT.names).merge(rows, on="sku")
    is_beyond = found["image_index"] >= found.pop("images_wanted")
    return found[is_beyond & (found["row_fingerprint"] != found["new_fingerprint"])]


def replaced(surplus: pd.DataFrame, summaries: Summaries) -> pa.Table:
    """Returns, as CURRENT, the pictures of `surplus` whose products have a live picture of the new row.

    Without such a picture the old ones stay, so that no product loses all its pictures.
    """
    live = _live_of(surplus, summaries, ("sku", "row_fingerprint")).drop_duplicates()
    has_new = surplus.merge(
        live.rename(columns={"row_fingerprint": "new_fingerprint"}), on=["sku", "new_fingerprint"]
    )
    return pa.Table.from_pandas(has_new[CURRENT.names], CURRENT, preserve_index=False)


def _live_of(products: pd.DataFrame, summaries: Summaries, columns: Sequence[str]) -> pd.DataFrame:
    """Returns the live pictures of `products`."""
    if products.empty:
        return pd.DataFrame(columns=list(columns))
    live = summaries.live_table(columns)
    live = live.filter(pc.is_in(live["sku"], value_set=pa.array(products["sku"], pa.string())))
    found: pd.DataFrame = live.to_pandas()
    return found


def retire(store: ObjectStore, run_id: str, pictures: Mapping[str, pa.Table]) -> dict[str, int]:
    """Takes pictures out of the live table. Repeating it changes nothing.

    `pictures` maps reasons to rows of CURRENT. Returns the number of retired pictures for each reason.
    """
    key = retired_key(run_id)
    try:
        table = read_decisions(store.get(key), key)
    except ObjectNotFound:
        if not any(each.num_rows for each in pictures.values()):
            return {}
        table = put_once(store, key, _table(store, run_id, pictures, reserve(store, key)))
    with ThreadPoolExecutor(_THREADS, "retire") as pool:
        merge_into_summaries(store, {key: table}, pool)
    return dict(Counter(table["reason"].to_pylist()))


def put_once(store: ObjectStore, key: str, table: pa.Table) -> pa.Table:
    """Stores a table of DECISIONS. Returns the stored table, which may come from an interrupted try."""
    try:
        store.put_if(key, write_decisions(table), None, content_type=PARQUET)
    except Conflict:
        return read_decisions(store.get(key), key)
    return table


def _table(store: ObjectStore, run_id: str, pictures: Mapping[str, pa.Table], commit: int) -> pa.Table:
    """Returns a row of DECISIONS for each picture."""
    decisions = stored_decisions(store)
    approvals = decisions.filter(pc.equal(decisions["decision"], APPROVE))
    origin = {
        row["image_id"]: (row["machine_decision"], row["run_commit"])
        for row in approvals.select(["image_id", "machine_decision", "run_commit"]).to_pylist()
    }
    now = datetime.now(UTC)

    def row(picture: Mapping[str, Any], reason: str) -> dict[str, Any]:
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
            "reason": reason,
            **{name: picture[name] for name in OF_CANDIDATE},
            "machine_decision": machine_decision,
            "run_commit": run_commit,
        }

    rows = [row(each, reason) for reason, table in pictures.items() for each in table.to_pylist()]
    return pa.Table.from_pylist(rows, schema=DECISIONS)
