"""The steps of `generate-catalog` before and after its shards. They import no Prefect.

So the command line finds out without importing Prefect that there is nothing to generate. This halves the
time of a run without work.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import pyarrow.compute as pc

from catalog_schemas.validation import TableError
from toygan.errors import ToyganError
from toygan.generation.request import RunRequest, resolve_run
from toygan.generation.run import StartedRun, start_run
from toygan.metrics import LAST_SUCCESS, PHOTOS_QUARANTINED, PICTURES_MISSING, REVIEW_BACKLOG
from toygan.planning.decisions import stored_decisions
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
_begun: "list[tuple[RunRequest, BegunRun]]" = []  # what begin_early returned, until begin_run takes it


@dataclass(frozen=True, kw_only=True)
class BegunRun:
    """A run before its shards."""

    run: StartedRun
    store: ObjectStore
    is_new: bool  # nothing of this run was in the store before
    gone: Gone | None  # the pictures to retire; None: the request retires none


def begin_run(request: RunRequest) -> BegunRun:
    """Checks a request, completes what earlier runs left open, and freezes the plan.

    Raises a subclass of BadInput for a request that cannot be fulfilled. In that case nothing of the run is
    in the store.
    """
    while _begun:
        early, begun = _begun.pop()
        if early == request:
            return begun
    resolved = resolve_run(request)
    complete_open_runs(resolved.store)
    gone = None
    if request.retire is not None:
        gone = find_gone(resolved.store, request.catalog, request.columns)
        check_share(gone, request.retire)
    return BegunRun(run=start_run(resolved), store=resolved.store, is_new=resolved.is_new, gone=gone)


def begin_early(request: RunRequest) -> BegunRun:
    """Does what begin_run does. The next call of begin_run in this process returns the same BegunRun."""
    begun = begin_run(request)
    _begun[:] = [(request, begun)]
    return begun


def end_run(
    begun: BegunRun, log: Log, tell: Callable[[ObjectStore, str, Sequence[Alert]], object]
) -> RunSummary:
    """Commits a run whose shards are done, then retires the pictures of `begun.gone`.

    Also shows the run, logs its alerts, and passes the alerts to `tell`. Raises RunFailed if no picture is
    finite.
    """
    store = begun.store
    summary = finish_run(begun.run, version("prefect"), photos_so_far=photos_so_far)
    _show(store, summary, log)
    try:
        alerts = find_alerts(store, summary.manifest, summary.parts)
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
    """Writes the page of the store and sets its metrics. An error in this does not fail the run."""
    try:
        uploads, decisions = read_history(store), stored_decisions(store)
        nights = record_night(store, summary.manifest, decisions)
        write_store_report(store, nights, decisions, uploads)
    except (ToyganError, TableError) as error:
        log.warning("the page of the store is not up to date: %s", error)
        return
    whole = nights.filter(pc.is_null(nights["category"])).sort_by("commit")
    for night in whole.slice(max(0, len(whole) - 1)).to_pylist():  # an older run may be repeated
        PICTURES_MISSING.labels(store.uri).set(night["wanted"] - night["covered"])
        REVIEW_BACKLOG.labels(store.uri).set(night["backlog"])
    PHOTOS_QUARANTINED.labels(store.uri).set(len(uploads.quarantined_at))
