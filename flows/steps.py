"""The steps of `generate-catalog` before and after its shards. They do not import Prefect.

So the command line can find out without Prefect that there is nothing to generate, which halves the time of
such a run.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import pyarrow.compute as pc

from catalog_schemas.validation import TableError
from toygan.errors import ToyganError
from toygan.generation.request import RunRequest, resolve_run
from toygan.generation.run import StartedRun, run_shard, start_run
from toygan.metrics import LAST_SUCCESS, PHOTOS_QUARANTINED, PICTURES_MISSING, REVIEW_BACKLOG, count_shard
from toygan.progress import Progress
from toygan.publishing.alerts import Alert, find_alerts
from toygan.publishing.commit import complete_open_runs
from toygan.publishing.finish import finish_run
from toygan.publishing.nights import record_night
from toygan.publishing.retire import Gone, check_share, find_gone, retire
from toygan.publishing.store_report import write_store_report
from toygan.publishing.summary import RunSummary
from toygan.storage.store import ObjectStore
from toygan.uploads.history import read_history
from toygan.uploads.index import photos_so_far

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]
_log = logging.getLogger(__name__)
# the result of the last begin_early, until begin_run takes it
_begun: "list[tuple[RunRequest, BegunRun]]" = []


@dataclass(frozen=True, kw_only=True)
class BegunRun:
    """A run that has begun, before its shards are computed."""

    run: StartedRun
    is_new: bool  # whether nothing of this run was in the store before
    gone: Gone | None  # the pictures to retire; None if the request retires none


def begin_run(request: RunRequest, *, is_new: bool = False) -> BegunRun:
    """Checks a request, completes what earlier runs left open, and freezes the plan.

    With `is_new` the caller knows that the store has nothing of this run id. Raises a subclass of BadInput
    for a request that cannot be fulfilled. In that case nothing of the run is in the store.
    """
    while _begun:
        early, begun = _begun.pop()
        if early == request:
            return begun
    resolved = resolve_run(request, is_new=is_new)
    summaries = complete_open_runs(resolved.store, mends=True)
    gone = None
    if request.retire is not None:
        gone = find_gone(resolved.store, request.catalog, request.columns)
        check_share(gone, request.retire)
    return BegunRun(run=start_run(resolved, summaries), is_new=resolved.is_new, gone=gone)


def begin_early(request: RunRequest, *, is_new: bool) -> BegunRun:
    """Does what begin_run does. The next call of begin_run in this process returns the same BegunRun."""
    begun = begin_run(request, is_new=is_new)
    _begun[:] = [(request, begun)]
    return begun


def compute_early(request: RunRequest, is_ready: Callable[[], bool]) -> int:
    """Computes shards of the run that begin_early began, without Prefect, until `is_ready()`.

    Returns the number of computed shards. The next call of begin_run returns the run with the shards that are
    left. A shard that fails is left, too: the flow tries it again.
    """
    begun = _begun[0][1]
    run, left = begun.run, list(begun.run.pending)
    with generating(run) as progress:
        while left and not is_ready():
            shard, began_s = left[0], time.monotonic()
            try:
                found = run_shard(run.worker_spec, run.plan.run_id, shard, run.plan.settings.format)
            except Exception as error:
                _log.info("shard %d: %s; trying it again later", shard, error)
                break
            count_shard(found, time.monotonic() - began_s)
            progress.advance(run.plan.shards[left.pop(0)].slots)
    _begun[:] = [(request, replace(begun, run=replace(run, pending=tuple(left))))]
    return len(run.pending) - len(left)


def generating(run: StartedRun) -> Progress:
    """Returns the progress of a run in products. The shards that are not pending are done."""
    slots = [shard.slots for shard in run.plan.shards]
    pending = sum(slots[shard] for shard in run.pending)
    return Progress(total=sum(slots), done=sum(slots) - pending, unit="products", description="generating")


def end_run(
    begun: BegunRun, log: Log, tell: Callable[[ObjectStore, str, Sequence[Alert]], object]
) -> RunSummary:
    """Commits a run whose shards are done, then retires the pictures of `begun.gone`.

    Also shows the run, logs its alerts, and passes the alerts to `tell`. Raises RunFailed if no picture is
    finite.
    """
    store = begun.run.store
    summary = finish_run(begun.run, version("prefect"), photos_so_far=photos_so_far)
    _show(store, summary, log)
    try:
        alerts = find_alerts(summary.manifest, summary.parts, summary.summaries)
    except (ToyganError, TableError) as error:
        log.warning("the alerts of the run could not be determined: %s", error)
        alerts = []
    for alert in alerts:
        log.warning("%s", alert.message)
    tell(store, summary.manifest.run_id, alerts)
    summary.check_finite()
    if begun.gone is not None:
        summary = replace(summary, retired=retire(store, summary.manifest.run_id, begun.gone))
    LAST_SUCCESS.labels(store.uri).set_to_current_time()
    return summary


def _show(store: ObjectStore, summary: RunSummary, log: Log) -> None:
    """Writes the page of the store and sets its metrics. An error here does not make the run fail."""
    try:
        uploads = read_history(store)
        nights = record_night(store, summary.manifest, summary.summaries)
        write_store_report(store, nights, summary.summaries.decisions_table(), uploads)
    except (ToyganError, TableError) as error:
        log.warning("the page of the store is not up to date: %s", error)
        return
    whole = nights.filter(pc.is_null(nights["category"])).sort_by("commit")
    # only if this run is the last one, since an older run may be repeated
    for night in whole.slice(max(0, len(whole) - 1)).to_pylist():
        PICTURES_MISSING.labels(store.uri).set(night["wanted"] - night["covered"])
        if night["backlog"] is not None:  # the run of another process, which has not counted it yet
            REVIEW_BACKLOG.labels(store.uri).set(night["backlog"])
    PHOTOS_QUARANTINED.labels(store.uri).set(len(uploads.quarantined_at))
