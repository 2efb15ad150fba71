"""The flow `watch-photos`: indexes uploads, and asks for a retraining if enough of them are new."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any
from uuid import UUID

import pyarrow.compute as pc
from prefect import flow, get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.runtime import deployment
from prefect.states import Completed, Crashed

from flows.events import emit_uploads
from flows.lifeline import end_with_the_service
from flows.parameters import WatchParameters
from flows.turns import BULK_DELETE
from toygan.errors import BadInput
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectStore
from toygan.uploads.categories import known_categories
from toygan.uploads.indexing import index_uploads
from toygan.uploads.retrained import read_retrained, unseen_photos

RETRAIN = "retrain"
_RUNS_LOOKED_AT = 50
_LONGEST_START = timedelta(minutes=10)
_FIRST_PAUSE = timedelta(minutes=5)
_LONGEST_PAUSE = timedelta(days=1)
# Two listings a minute would fill Prefect's database within weeks.
_KEPT = {("COMPLETED", "CANCELLED"): timedelta(hours=1), ("FAILED", "CRASHED"): timedelta(days=1)}
_NOT_BY_A_PERSON = "Deployment concurrency"  # the beginning of the message if Prefect itself cancels a run


@flow(name="watch-photos", flow_run_name="list photos of {parameters.store}", persist_result=False)
def watch_photos(parameters: WatchParameters) -> State[Any]:
    """Lists the uploads, indexes those that can be used, and emits `toygan.photos.uploaded`.

    The event follows every listing with at least `min_new_photos` photos that no finished retraining has
    seen. There is no event while a retraining is active, and none during the pause after two or more failed
    retrainings. After a person has cancelled a retraining, there is no event until a new photo is indexed.
    See `why_not_now` and `toygan.uploads.retrained`.
    """
    end_with_the_service()
    log = get_run_logger()
    store = open_store(parameters.store)
    result = index_uploads(store, known_categories(store, parameters.categories))
    if result.added or result.quarantined or result.unread:
        log.info(
            "uploads of %s: %d files; %d were added to the index, %d to the quarantine; %d could not be read",
            *(store.uri, result.listed, result.added, result.quarantined, result.unread),
        )
    forget_listings(datetime.now(UTC))
    unseen = unseen_photos(result.index, read_retrained(store))
    summary = f"{result.index.num_rows} photos in the index, {unseen.num_rows} of them unseen by a retraining"
    if unseen.num_rows < parameters.min_new_photos:
        return Completed(message=summary)
    newest: datetime = pc.max(unseen["indexed_at"]).as_py()
    if reason := why_not_now(_retrainings_of(store), datetime.now(UTC), newest):
        return Completed(message=f"{summary}; {reason}")
    emit_uploads(store, unseen.num_rows)
    return Completed(message=f"{summary}; asked for a retraining")


def why_not_now(runs: Sequence[FlowRun], now: datetime, newest_photo: datetime) -> str | None:
    """Returns the reason why no retraining should be asked for now, or None. `runs` are the latest
    retrainings, the newest first.

    A waiting or active retraining will see the new photos, or leave them to the next listing. After a person
    cancelled a retraining, the next one is asked for when a new photo is indexed. After one failure, the next
    retraining is asked for at once, because the failed one may have been killed. After every further failure,
    the pause before the next one is longer.
    """
    if any(_is_under_way(run, now) for run in runs):
        return "a retraining is active"
    if runs and _is_cancelled(runs[0]) and newest_photo <= (runs[0].end_time or now):
        return "the last retraining was cancelled; the next one is asked for when new photos come"
    others = [run for run in runs if not _is_cancelled(run)]
    failed = list(takewhile(lambda run: run.state is not None and not run.state.is_completed(), others))
    if len(failed) < 2 or failed[0].end_time is None:
        return None
    pause = min(_FIRST_PAUSE * 2 ** min(len(failed) - 2, 16), _LONGEST_PAUSE)
    if now < failed[0].end_time + pause:
        return (
            f"the last {len(failed)} retrainings failed; the next one is asked for after a pause of {pause}"
        )
    return None


def forget_listings(now: datetime, deployment_id: UUID | str | None = None) -> None:
    """Removes old runs of a deployment, at most 50 finished and 50 failed runs.

    The default is this run's deployment.
    """
    identifier = deployment_id or deployment.id
    if identifier is None:
        return
    with get_client(sync_client=True) as client:
        for states, kept_for in _KEPT.items():
            wanted = {
                "deployment_id": {"any_": [str(identifier)]},
                "state": {"type": {"any_": list(states)}},
                "end_time": {"before_": (now - kept_for).isoformat()},
            }
            client.request("POST", BULK_DELETE, json={"flow_runs": wanted})


def _is_cancelled(run: FlowRun) -> bool:
    if run.state is None or not run.state.is_cancelled():
        return False
    return not (run.state.message or "").startswith(_NOT_BY_A_PERSON)


def _is_under_way(run: FlowRun, now: datetime) -> bool:
    """Returns whether a run will end by itself. A run whose process never started will never end."""
    if run.state is None or run.state.is_final():
        return False
    return not run.state.is_pending() or now < run.state.timestamp + _LONGEST_START


def _retrainings_of(store: ObjectStore) -> list[FlowRun]:
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[RETRAIN])),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=_RUNS_LOOKED_AT,
        )
        return [_buried(run, client) for run in runs if _store_of(run) in (None, store.uri)]


def _buried(run: FlowRun, client: SyncPrefectClient) -> FlowRun:
    """Returns the run, marked as crashed if its process died with its machine.

    A live process keeps renewing its hold on the slot of its deployment. After the death of the process, the
    hold expires.
    """
    if run.state is None or not run.state.is_running() or run.deployment_id is None:
        return run
    try:
        limit = client.read_deployment(run.deployment_id).global_concurrency_limit
    except ObjectNotFound:
        return run
    if limit is None or limit.active_slots:
        return run
    crashed: State[Any] = Crashed(
        message="its process is gone: it no longer holds the slot of its deployment"
    )
    client.set_flow_run_state(run.id, crashed, force=True)
    get_run_logger().warning("the process of the retraining %s is gone", run.name)
    return client.read_flow_run(run.id)


def _store_of(run: FlowRun) -> str | None:
    """Returns the store of a retraining; None for that of the settings."""
    uri = run.parameters.get("parameters", {}).get("store")
    try:
        return open_store(uri).uri if uri else None
    except BadInput:  # such a retraining has failed; it must not stop the listings of this store
        return str(uri)
