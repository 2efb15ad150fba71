"""Commits a run, in this order: pictures, the parts, the report, the manifest, the live table.

An interruption at any point leaves a store in which every referenced object exists. A repetition changes
nothing. The commit numbers determine which pictures are live, see `toygan.publishing.commit_log`.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from catalog_schemas.images import (
    ATTEMPTS,
    DECISIONS,
    write_attempts,
)
from catalog_schemas.runs import Manifest
from catalog_schemas.validation import TableError
from toygan.errors import ObjectNotFound
from toygan.planning.attempts import attempts_of, merge_attempts, parse_attempts
from toygan.planning.finished import Parts, read_manifest, read_manifests, read_part_at_hand
from toygan.planning.summaries import Summaries, read_if_there, read_summaries
from toygan.publishing.commit_log import Commits, close
from toygan.publishing.decided import complete_decisions, is_decision
from toygan.publishing.live_table import approved_of, update_current
from toygan.publishing.mend import mend_summaries
from toygan.storage.keys import (
    ATTEMPTS_KEY,
    CURRENT_KEY,
    DECIDED_KEY,
    manifest_key,
    rejected_rows_key,
    report_key,
    tmp_prefix,
)
from toygan.storage.store import PARQUET, ObjectStore
from toygan.storage.update import Stored, update

_log = logging.getLogger(__name__)

NOT_FINITE = "not_finite"  # the name of the count of candidates that are not finite
_THREADS = 8


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The numbers of candidates by decision.

    `counts` also has the number of candidates that are not finite.
    """

    counts: Mapping[str, int]
    categories: Mapping[str, Mapping[str, int]]
    models: Mapping[str, Mapping[str, int]]  # by NAME@VERSION


def tally(parts: Iterable[pa.Table]) -> Outcome:
    """Counts the candidates by decision, and those that are not finite, one part at a time."""
    not_finite = 0
    by_category: dict[str, Counter[str]] = {}
    by_model: dict[str, Counter[str]] = {}
    keys = ["category", "model_name", "model_version", "decision"]
    for part in parts:
        not_finite += part["p_real"].null_count
        for group in part.group_by(keys).aggregate([("image_id", "count")]).to_pylist():
            model = f"{group['model_name']}@{group['model_version']}"
            for counters, name in ((by_category, group["category"]), (by_model, model)):
                counters.setdefault(name, Counter())[group["decision"]] += group["image_id_count"]
    categories, models = _by_decision(by_category), _by_decision(by_model)
    totals = {each: sum(counts[each] for counts in categories.values()) for each in DECISIONS}
    return Outcome(counts=totals | {NOT_FINITE: not_finite}, categories=categories, models=models)


def _by_decision(counters: Mapping[str, Counter[str]]) -> dict[str, dict[str, int]]:
    return {name: {each: counts[each] for each in DECISIONS} for name, counts in counters.items()}


def publish_report(store: ObjectStore, run_id: str, html: str) -> None:
    store.put(report_key(run_id), html.encode(), content_type="text/html; charset=utf-8")


def publish_manifest(store: ObjectStore, manifest: Manifest) -> None:
    """Writes the manifest, which commits the run.

    Everything that it references must be in the store already.
    """
    store.put(manifest_key(manifest.run_id), manifest.to_json().encode(), content_type="application/json")


def make_live(
    store: ObjectStore, manifest: Manifest, parts: Iterable[pa.Table], commits: Stored | None = None
) -> Summaries:
    """Merges a finished run with the metadata `parts` into the summaries. Makes its pictures live.

    Returns the summaries. The call can be repeated, and several runs can be made live at the same time. The
    highest commit wins. `commits` is `state/commits.json` as it was read or written before.
    """
    rows = [(attempts_of(part, manifest.commit), approved_of(part, manifest.commit)) for part in parts]
    attempts = _update_attempts(store, [tried for tried, _ in rows])
    live, decisions = _make_current(store, [fresh for _, fresh in rows])
    commits = close(store, manifest, known=commits)
    return Summaries(attempts=attempts, live=live, decisions=decisions, commits=commits)


def complete_open_runs(store: ObjectStore, *, mends: bool = False) -> Summaries:
    """Completes commits whose processes died: makes their runs and decisions live. Rebuilds missing
    summaries.

    Logs a damaged manifest, part or decision, and goes on without it; `verify` reports it. With `mends`,
    makes damaged summaries again, see mend_summaries. Returns the summaries. Raises BadInput or TableError
    for a damaged summary.
    """
    found = read_summaries(store)
    if mends and mend_summaries(store, found):
        found = read_summaries(store)
    commits = None if found.commits.content is None else Commits.from_json(found.commits.content)
    if commits is not None and found.are_complete and not commits.open and store.has_conditional_writes:
        return found
    _complete(store, commits)
    return read_summaries(store)


def _complete(store: ObjectStore, commits: Commits | None) -> None:
    if commits is not None:
        complete_decisions(store, commits)
        for run_id in commits.open:
            if not is_decision(run_id):
                _complete_run(store, run_id)
        if commits.last == len(commits.open) or (store.exists(ATTEMPTS_KEY) and store.exists(CURRENT_KEY)):
            return
    with ThreadPoolExecutor(_THREADS, "summaries") as pool:
        manifests = read_manifests(store, pool)
        if manifests:
            _log.warning(
                "the store %s lacks summaries below state/; rebuilding them from all runs", store.uri
            )
            complete_decisions(store, None)
            _remake(store, manifests, pool)


def _complete_run(store: ObjectStore, run_id: str) -> None:
    """Makes a committed run live. A run with a damaged file stays open, so it is tried again each time."""
    try:
        manifest = read_manifest(store, run_id)
        if manifest is not None:
            _log.info("run %s was committed but not made live; doing that now", run_id)
            make_live(store, manifest, Parts(store, run_id, manifest.shards))
    except (ObjectNotFound, TableError) as error:
        _log.warning("the run %s cannot be made live: %s; see `toygan verify`", run_id, error)


def _remake(store: ObjectStore, manifests: Sequence[Manifest], pool: Executor) -> None:
    attempts, fresh = [], []
    for manifest in manifests:
        # One run at a time, to limit the memory.
        found = pool.map(partial(_summaries, store, manifest), range(manifest.shards))
        parts = [each for each in found if each is not None]
        if not parts:
            continue
        attempts.append(merge_attempts(tried for tried, _ in parts))
        fresh.append(pa.concat_tables(live for _, live in parts))
    _update_attempts(store, attempts)
    _make_current(store, fresh)
    close(store, *manifests)


def _summaries(store: ObjectStore, manifest: Manifest, shard: int) -> tuple[pa.Table, pa.Table] | None:
    part = read_part_at_hand(store, manifest.run_id, shard)
    if part is None:
        return None
    return attempts_of(part, manifest.commit), approved_of(part, manifest.commit)


def _update_attempts(store: ObjectStore, more: Sequence[pa.Table]) -> bytes | None:
    def merge(before: bytes | None) -> bytes:
        known = ATTEMPTS.empty_table() if before is None else parse_attempts(before)
        return write_attempts(merge_attempts([known, *more]))

    if (
        not any(table.num_rows for table in more)
        and (known := read_if_there(store, ATTEMPTS_KEY)) is not None
    ):
        return known
    return update(store, ATTEMPTS_KEY, merge, content_type=PARQUET).content


def _make_current(store: ObjectStore, fresh: Sequence[pa.Table]) -> tuple[bytes | None, bytes | None]:
    """Returns the live table and the table of decisions, in their stored form."""
    if not any(table.num_rows for table in fresh) and (live := read_if_there(store, CURRENT_KEY)) is not None:
        return live, read_if_there(store, DECIDED_KEY)
    return update_current(store, fresh)


def sweep(store: ObjectStore, run_id: str) -> None:
    """Deletes the unfinished files and the frozen plan of a run. Call it after the manifest is written."""
    for found in list(store.list(tmp_prefix(run_id))):
        store.delete(found.key)


def abandon(store: ObjectStore, run_id: str) -> None:
    """Deletes the plan of a run that has generated nothing."""
    sweep(store, run_id)
    store.delete(rejected_rows_key(run_id))
