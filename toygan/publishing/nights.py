"""Keeps the numbers of the last runs in one table, `state/nights.parquet`, so that pages are made quickly.

The manifests of the runs hold the same numbers, except the backlog. If the table is missing or damaged, it is
made again from the manifests.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from catalog_schemas.images import APPROVED, DECISIONS, REVIEW, SLOT
from catalog_schemas.runs import NIGHTS, Manifest, check_report_fields
from catalog_schemas.validation import TableError, parquet_bytes, read_parquet_bytes
from toygan.planning.decisions import without_undone
from toygan.planning.finished import read_manifests
from toygan.planning.summaries import Summaries
from toygan.storage.keys import NIGHTS_KEY, manifest_key
from toygan.storage.store import PARQUET, ObjectStore
from toygan.storage.update import update

MOST_RUNS = 365  # the table holds only this number of last runs
_THREADS = 16
_ORDER = [("commit", "ascending"), ("run_id", "ascending"), ("category", "ascending")]

log = logging.getLogger(__name__)


def record_night(store: ObjectStore, manifest: Manifest, summaries: Summaries) -> pa.Table:
    """Adds a finished run with the present backlog to the table. Returns the table (NIGHTS)."""
    backlog = review_backlog(summaries)

    def merge(known: pa.Table | None) -> pa.Table:
        if known is None:
            known = _from_manifests(store, {})
        others = known.filter(pc.not_equal(known["run_id"], manifest.run_id))
        # A repeated run keeps the backlog that was counted after its first time.
        counted = {manifest.run_id: backlog} | _backlogs(known)
        return pa.concat_tables([others, _rows([manifest], counted)])

    return _update(store, merge)


def rebuild_nights(store: ObjectStore, summaries: Summaries) -> pa.Table:
    """Makes the table again from the manifests, and returns it. The last run gets the present backlog."""
    backlog = review_backlog(summaries)

    def merge(known: pa.Table | None) -> pa.Table:
        counted = {} if known is None else _backlogs(known)
        made = _from_manifests(store, counted)
        if not made.num_rows or made["run_id"][-1].as_py() in counted:
            return made
        return _from_manifests(store, counted | {made["run_id"][-1].as_py(): backlog})

    return _update(store, merge)


def review_backlog(summaries: Summaries) -> int:
    """Counts the candidates that wait for people: nobody has decided about them, and their slots have no live
    picture.
    """
    tried, live = summaries.attempts_table(), summaries.live_table(SLOT)
    waiting = tried.filter(pc.is_valid(tried["review_uri"])).sort_by("commit").select([*SLOT, "review_uri"])
    newest = waiting.to_pandas().drop_duplicates(list(SLOT), keep="last")
    image_ids = newest["review_uri"].str.extract(r"/([0-9a-f]{20})\.[a-z]+$")[0]
    decided = without_undone(summaries.decisions_table())["image_id"].to_pandas()
    has_live = pd.MultiIndex.from_frame(newest[list(SLOT)]).isin(pd.MultiIndex.from_frame(live.to_pandas()))
    return int((~has_live & ~image_ids.isin(decided).to_numpy()).sum())


def _update(store: ObjectStore, change: Callable[[pa.Table | None], pa.Table]) -> pa.Table:
    merged = NIGHTS.empty_table()

    def merge(before: bytes | None) -> bytes:
        nonlocal merged
        merged = _last(change(None if before is None else _read(before)))
        return parquet_bytes(merged)

    update(store, NIGHTS_KEY, merge, content_type=PARQUET)
    return merged


def _read(data: bytes) -> pa.Table | None:
    try:
        return read_parquet_bytes(data, NIGHTS, NIGHTS_KEY)
    except TableError as error:
        log.warning("the table of the last runs is made again from the manifests: %s", error)
        return None


def _backlogs(nights: pa.Table) -> dict[str, int]:
    counted = nights.filter(pc.is_valid(nights["backlog"]))
    return dict(zip(counted["run_id"].to_pylist(), counted["backlog"].to_pylist(), strict=True))


def _from_manifests(store: ObjectStore, backlogs: Mapping[str, int]) -> pa.Table:
    with ThreadPoolExecutor(_THREADS, "nights") as pool:
        manifests = filter(_has_report_fields, read_manifests(store, pool))
        return _last(_rows(list(manifests)[-MOST_RUNS:], backlogs))


def _has_report_fields(manifest: Manifest) -> bool:
    try:
        check_report_fields(manifest, manifest_key(manifest.run_id))
    except TableError as error:
        log.warning("a run is left out: %s", error)
        return False
    return True


def _last(nights: pa.Table) -> pa.Table:
    """Returns the rows of the last MOST_RUNS runs, in the order of their commits."""
    commits = nights["commit"].unique().sort().to_pylist()[-MOST_RUNS:]
    return nights.filter(pc.is_in(nights["commit"], value_set=pa.array(commits, pa.int64()))).sort_by(_ORDER)


def _rows(manifests: Iterable[Manifest], backlogs: Mapping[str, int]) -> pa.Table:
    rows = []
    for manifest in manifests:
        check_report_fields(manifest, manifest_key(manifest.run_id))
        of_run = {
            "commit": manifest.commit,
            "run_id": manifest.run_id,
            "started_at": datetime.fromisoformat(manifest.started_at),
            "model": f"{manifest.model_name}@{manifest.model_version}",
        }
        for category, counts in [(None, manifest.counts), *manifest.categories.items()]:
            backlog = backlogs.get(manifest.run_id) if category is None else None
            rows.append(of_run | {"category": category, "backlog": backlog} | _numbers(counts))
    return pa.Table.from_pylist(rows, schema=NIGHTS)


def _numbers(counts: Mapping[str, int]) -> dict[str, Any]:
    wanted = sum(counts.get(name, 0) for name in ("unchanged", "planned", "exhausted", "deferred"))
    return {
        "wanted": wanted,
        # A live picture that is to be replaced counts as planned. If no new picture is approved, it stays
        # live.
        "covered": min(wanted, counts.get("unchanged", 0) + counts[APPROVED]),
        "candidates": sum(counts[each] for each in DECISIONS),
        "approved": counts[APPROVED],
        "review": counts[REVIEW],
        "exhausted": counts.get("exhausted", 0),
    }
