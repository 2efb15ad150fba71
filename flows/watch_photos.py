"""The flow `watch-photos`: uploads are indexed, and a retraining is asked for when enough have come."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Crashed

from flows.events import tell_of_uploads
from flows.parameters import WatchParameters
from toygan.storage.store import ObjectStore, open_store
from toygan.uploads.categories import known_categories
from toygan.uploads.indexing import index_uploads
from toygan.uploads.retrained import read_retrained, unseen_photos

RETRAIN = "retrain"
_RUNS_LOOKED_AT = 50
_LONGEST_START = timedelta(minutes=10)
_FIRST_PAUSE = timedelta(minutes=5)
_LONGEST_PAUSE = timedelta(days=1)


@flow(name="watch-photos", persist_result=False)
def watch_photos(parameters: WatchParameters) -> State[Any]:
    """Lists the uploads, indexes those that can be used, and emits `toygan.photos.uploaded`.

    It is emitted after every listing that leaves at least `min_new_photos` photos unseen by any finished
    retraining, unless one is under way or the last ones failed; see `toygan.uploads.retrained`.
    """
    log = get_run_logger()
    store = open_store(parameters.store)
    result = index_uploads(store, known_categories(store, parameters.categories))
    if result.added or result.quarantined or result.unread:
        log.info(
            "%s: %d files, %d more in the photo index, %d more in the quarantine, %d could not be read",
            *(store.uri, result.listed, result.added, result.quarantined, result.unread),
        )
    unseen = unseen_photos(result.index, read_retrained(store)).num_rows
    told = f"{result.index.num_rows} photos in the index, {unseen} of them unseen by a retraining"
    if unseen < parameters.min_new_photos:
        return Completed(message=told)
    if reason := why_not_now(_retrainings_of(store), datetime.now(UTC)):
        return Completed(message=f"{told}; {reason}")
    tell_of_uploads(store, unseen)
    return Completed(message=f"{told}; asked for a retraining")


def why_not_now(runs: Sequence[FlowRun], now: datetime) -> str | None:
    """Why no retraining should be asked for; `runs` are the latest ones, the last one first.

    One that waits or runs will see the photos, or leave them to the next listing. One that failed is tried
    again at once, since it may have been killed; after that with growing pauses, since it may fail always.
    """
    if any(_is_under_way(run, now) for run in runs):
        return "a retraining is under way"
    failed = list(takewhile(lambda run: run.state is not None and not run.state.is_completed(), runs))
    if len(failed) < 2 or failed[0].end_time is None:
        return None
    pause = min(_FIRST_PAUSE * 2 ** min(len(failed) - 2, 16), _LONGEST_PAUSE)
    if now < failed[0].end_time + pause:
        return f"the last {len(failed)} retrainings failed, the next is asked for after a pause of {pause}"
    return None


def _is_under_way(run: FlowRun, now: datetime) -> bool:
    """Whether it will end by itself; one whose process never started will not."""
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
    """The run, but crashed where Prefect thinks that it runs and its process has died with its machine.

    As long as it lives it renews its hold on the slot of its deployment; without, the hold ends by itself.
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
        message="its process is gone: it does not hold the slot of its deployment any more"
    )
    client.set_flow_run_state(run.id, crashed, force=True)
    get_run_logger().warning("the retraining %s is gone", run.name)
    return client.read_flow_run(run.id)


def _store_of(run: FlowRun) -> str | None:
    uri = run.parameters.get("parameters", {}).get("store")
    return open_store(uri).uri if uri else None
