"""The steps of `generate-catalog`. They do not import Prefect.

The flow runs them with Prefect's tasks; `run_here` runs them alone, for a command line without a server.
"""

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, replace
from importlib.metadata import version

import pandas as pd
import pyarrow.compute as pc

from catalog_schemas.validation import TableError
from flows.logs import log_fields, use_the_log_format
from flows.settings import service_settings
from toygan.errors import BadInput, Retryable, RunFailed, ToyganError
from toygan.generation.request import RunRequest, resolve_run
from toygan.generation.run import StartedRun, run_shard, start_run
from toygan.metrics import (
    LAST_SUCCESS,
    PHOTOS_QUARANTINED,
    PICTURES_MISSING,
    REVIEW_BACKLOG,
    SHARDS_WAITING,
    count_shard,
)
from toygan.names import counted
from toygan.planning.summaries import read_summaries
from toygan.progress import Progress
from toygan.publishing.alerts import Alert, find_alerts
from toygan.publishing.commit import complete_open_runs
from toygan.publishing.finish import finish_run
from toygan.publishing.nights import record_night
from toygan.publishing.retire import (
    NOT_IN_CATALOG,
    SURPLUS,
    Gone,
    check_share,
    find_gone,
    find_surplus,
    replaced,
    retire,
)
from toygan.publishing.returned import bring_back
from toygan.publishing.store_report import write_store_report
from toygan.publishing.summary import RunSummary
from toygan.storage.store import ObjectStore
from toygan.uploads.history import read_history
from toygan.uploads.index import photos_so_far

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]
_log = logging.getLogger(__name__)
_RETRY_AFTER_S = (2.0, 4.0, 8.0)  # seconds before each retry of a shard, as the flow waits


@dataclass(frozen=True, kw_only=True)
class BegunRun:
    """A run that has begun, before its shards are computed."""

    run: StartedRun
    is_new: bool  # whether nothing of this run was in the store before
    gone: Gone | None  # the pictures of gone products; None if the request retires none
    surplus: pd.DataFrame  # see find_surplus


def begin_run(request: RunRequest, *, is_new: bool = False) -> BegunRun:
    """Checks a request, completes what earlier runs left open, brings retired pictures back, and freezes the
    plan.

    With `is_new` the caller knows that the store has nothing of this run id. Raises a subclass of BadInput
    for a request that cannot be fulfilled. In that case the run makes no pictures, and its plan is not in the
    store.
    """
    resolved = resolve_run(request, is_new=is_new)
    summaries = complete_open_runs(resolved.store, mends=True)
    gone = None
    if request.retire is not None:
        gone = find_gone(resolved.store, request.catalog, request.columns)
        check_share(gone, request.retire)
    rows = (request.catalog, request.columns, request.images_per_product)
    if returned := bring_back(resolved.store, request.run_id, summaries, *rows):
        _log.info("%s live again: in the catalog again", counted(returned, "picture"))
        summaries = read_summaries(resolved.store)
    surplus = find_surplus(summaries, *rows)
    run = start_run(resolved, summaries)
    return BegunRun(run=run, is_new=resolved.is_new, gone=gone, surplus=surplus)


def run_here(request: RunRequest, *, is_new: bool) -> RunSummary:
    """Runs `generate-catalog` in this process without Prefect.

    With `is_new` the caller knows that the store has nothing of this run id. Raises what begin_run,
    raise_failures and end_run raise.
    """
    use_the_log_format()
    with log_fields(run=request.run_id):
        begun = begin_run(request, is_new=is_new)
        if begun.run.pending:
            compute_shards(begun.run)
        return end_run(begun, _log, lambda store, run_id, alerts: None)


@contextmanager
def logged_shard(
    log: Log, run_id: str, shard: int, categories: Sequence[str]
) -> Iterator[Callable[[Mapping[str, Mapping[str, int]]], dict[str, dict[str, int]]]]:
    """Logs the computation of one shard in the block.

    Yields a function that takes the result of run_shard. It counts the candidates for the metrics, and
    returns them by category and decision.
    """
    began_s = time.monotonic()
    category = categories[0] if len(categories) == 1 else f"{len(categories)} categories"

    def done(found: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
        decisions = {category: dict(counts) for category, counts in found.items()}
        count_shard(decisions, time.monotonic() - began_s)
        total = sum(map(Counter, decisions.values()), Counter())
        log.info("shard %d (%s) is done: %s", shard, category, dict(total))
        return decisions

    with log_fields(run=run_id, shard=shard, category=category):
        log.debug("shard %d (%s) begins", shard, category)
        try:
            yield done
        except Retryable as error:
            # Logged here, because Prefect logs the reason of a retry only at a lower level.
            log.warning("shard %d failed: %s", shard, error)
            raise


def compute_shards(run: StartedRun) -> None:
    """Computes the shards of a run in this process. Raises what raise_failures raises."""
    shards, waiting = run.plan.shards, SHARDS_WAITING.labels(run.plan.run_id)
    waiting.set(len(run.pending))
    errors: dict[int, object] = {}
    with ThreadPoolExecutor(service_settings().shards_at_a_time) as threads, generating(run) as progress:
        futures = {
            threads.submit(copy_context().run, _compute_with_retries, run, shard): shard
            for shard in run.pending
        }
        for future in as_completed(futures):
            shard, error = futures[future], future.exception()
            waiting.dec()
            if error is None:
                progress.advance(shards[shard].slots)
            else:
                errors[shard] = error
    raise_failures(errors, run)


def _compute_with_retries(run: StartedRun, shard: int) -> None:
    run_id, image_format = run.plan.run_id, run.plan.settings.format
    planned = run.plan.shards[shard]
    for pause_s in (*_RETRY_AFTER_S, None):
        try:
            with logged_shard(_log, run_id, shard, planned.categories) as done:
                done(run_shard(run.worker_spec, run_id, shard, image_format, planned.sha256))
            return
        except BadInput:
            raise
        except Exception as error:
            if pause_s is None:
                raise
            if not isinstance(error, Retryable):  # a Retryable is logged already
                _log.warning("shard %d failed, and is tried again: %s", shard, error, exc_info=True)
        time.sleep(pause_s * random.uniform(1, 1.5))


def raise_failures(errors: Mapping[int, object], run: StartedRun) -> None:
    """Raises the errors of shards, if there are any: a BadInput as it is, else one RunFailed for all."""
    for error in errors.values():
        if isinstance(error, BadInput):
            raise error
    if errors:
        reasons = [f"shard {shard}: {error}" for shard, error in sorted(errors.items())[:3]]
        raise RunFailed(
            f"{len(errors)} of {len(run.pending)} shards failed; run again with the run id "
            f"{run.plan.run_id}, which keeps the finished work. {'; '.join(reasons)}"
        )


def generating(run: StartedRun) -> Progress:
    """Returns the progress of a run in products. The shards that are not pending are done."""
    slots = [shard.slots for shard in run.plan.shards]
    pending = sum(slots[shard] for shard in run.pending)
    return Progress(total=sum(slots), done=sum(slots) - pending, unit="products", description="generating")


def end_run(
    begun: BegunRun, log: Log, tell: Callable[[ObjectStore, str, Sequence[Alert]], object]
) -> RunSummary:
    """Commits a run whose shards are done, then retires the pictures of `begun.gone` and surplus pictures.

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
    old = {NOT_IN_CATALOG: begun.gone.pictures} if begun.gone is not None else {}
    if (surplus := replaced(begun.surplus, summary.summaries)).num_rows:
        old[SURPLUS] = surplus
    if old:
        summary = replace(summary, retired=retire(store, summary.manifest.run_id, old))
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
    # The metrics show the last run, even if this run is an older one that was repeated.
    for night in whole.slice(max(0, len(whole) - 1)).to_pylist():
        PICTURES_MISSING.labels(store.uri).set(night["wanted"] - night["covered"])
        # None if another process made the last run and has not counted the backlog yet.
        if night["backlog"] is not None:
            REVIEW_BACKLOG.labels(store.uri).set(night["backlog"])
    PHOTOS_QUARANTINED.labels(store.uri).set(len(uploads.quarantined_at))
