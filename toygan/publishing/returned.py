"""Brings retired pictures back: their products are in the catalog again, with the same rows.

A run writes the undos as one table of DECISIONS, `retired/returned/<run_id>.parquet`, before it plans. So its
plan treats these pictures as live.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256

import pyarrow as pa
import pyarrow.compute as pc

from catalog_schemas.decisions import DECISIONS, RETIRE, UNDO
from catalog_schemas.images import CURRENT
from toygan.planning.decisions import merge_decisions, returned_rows, verdicts
from toygan.planning.pruning import put_mark, read_condemned
from toygan.planning.rows import read_rows
from toygan.planning.summaries import Summaries
from toygan.publishing.commit_log import reserve
from toygan.publishing.decided import merge_into_summaries
from toygan.publishing.live_table import merge_current
from toygan.publishing.retire import put_once
from toygan.storage.keys import manifest_key, plan_manifest_key, returned_key
from toygan.storage.store import ObjectStore

_THREADS = 8


def bring_back(
    store: ObjectStore,
    run_id: str,
    summaries: Summaries,
    catalog: str,
    columns: Mapping[str, str],
    images_per_product: int,
) -> int:
    """Makes retired pictures live again that the catalog asks for again; returns their number.

    The retirement no longer counts, so the earlier decision about the picture is valid again. A picture stays
    retired if its row has changed, if its slot has had a later picture, or if its file is gone. Raises
    CatalogError for an unusable catalog, and Retryable if a prune is removing an earlier run of this id.
    """
    decisions = summaries.decisions_table()
    last = verdicts(decisions)
    retired = last.filter(pc.equal(last["decision"], RETIRE))
    rows = read_rows(catalog, columns, images_per_product, retired, are_wanted=True)
    found = retired.select(["sku", "image_index", "row_fingerprint", "image_id"]).to_pandas()
    found = found.merge(rows, on=["sku", "row_fingerprint"])
    asked = found["image_id"][found["image_index"] < found["images_wanted"]]
    undos = _undos(run_id, retired.filter(pc.is_in(retired["image_id"], pa.array(asked, pa.string()))))
    if not undos.num_rows:
        return 0
    # A picture that would not become live stays retired, so that the plan asks for another one.
    live = summaries.live_table(CURRENT.names)
    live = live.filter(pc.is_in(live["sku"], undos["sku"].combine_chunks()))
    after = merge_current([live, returned_rows(undos)], merge_decisions([decisions, undos]))
    undos = undos.filter(pc.is_in(undos["image_id"], after["image_id"].combine_chunks()))
    if any(store.exists(key(run_id)) for key in (plan_manifest_key, manifest_key)):
        return 0  # the mark of a planned run protects nothing; the next run brings the pictures back
    put_mark(store, run_id)
    condemned = read_condemned(store, run_id)
    with ThreadPoolExecutor(_THREADS, "returned") as pool:
        uris = undos["image_uri"].to_pylist()
        is_there = pool.map(lambda uri: uri not in condemned and store.exists(uri), uris)
        undos = undos.filter(pa.array(is_there, pa.bool_()))
        if undos.num_rows:
            key = returned_key(run_id)
            commit = pa.repeat(pa.scalar(reserve(store, key), pa.int64()), undos.num_rows)
            undos = undos.set_column(DECISIONS.get_field_index("commit"), DECISIONS.field("commit"), commit)
            undos = put_once(store, key, undos)
            merge_into_summaries(store, {key: undos}, pool)
    return int(undos.num_rows)


def _undos(run_id: str, retired: pa.Table) -> pa.Table:
    """Returns an undo for each retirement, without the number of its commit."""
    now = datetime.now(UTC)
    undos = [
        retirement
        | {
            "decision_id": sha256(f"{run_id} returned {retirement['image_id']}".encode()).hexdigest()[:32],
            "commit": 0,
            "decision": UNDO,
            "undoes": retirement["decision_id"],
            "decided_at": now,
            "reason": "in the catalog again",
        }
        for retirement in retired.to_pylist()
    ]
    return pa.Table.from_pylist(undos, schema=DECISIONS)
