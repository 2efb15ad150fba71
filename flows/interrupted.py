"""Resumes or closes runs that were interrupted with their service.

The service labels every run that it starts with its host, its process id and the start of its process. Its
runs end with it (see `flows.lifeline`). So if the service process of a run is gone, the run has ended, even
if Prefect still shows it as active.
"""

import os
import socket
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_logger
from prefect.states import AwaitingRetry, Cancelled, Crashed

LABEL = "toygan.service"
# A run is not started more often than this, because it may be the cause of the interruptions.
MOST_STARTS = 5
_UNDER_WAY = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
_ELSEWHERE_AFTER = timedelta(minutes=1)
_log = get_logger("toygan.service")


def this_service() -> str:
    """Returns the label of this service process, which no other process ever has."""
    return f"{socket.gethostname()} {os.getpid()} {_start_of(os.getpid())}"


def _start_of(pid: int) -> str | None:
    """Returns the start time of a process in clock ticks since boot.

    Returns None if the process is gone. Source: proc(5), stat, field 22.
    """
    try:
        stat = Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]


async def mark_as_ours(client: PrefectClient, run_id: UUID) -> bool:
    """Labels a run that is about to start with this process. Returns False if the run has been deleted."""
    try:
        await client.update_flow_run_labels(run_id, {LABEL: this_service()})
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise
        return False
    return True


async def take_up(client: PrefectClient, deployments: Collection[UUID], resumable: Collection[UUID]) -> None:
    """Closes those runs of `deployments` whose service process is gone.

    Runs of `resumable` deployments are started again.
    """
    if not deployments:
        return
    found = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=list(deployments)),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNDER_WAY)),
        )
    )
    for run in found:
        if await _is_orphan(client, run):
            await close_run(client, run, goes_on=run.deployment_id in resumable)


async def close_run(client: PrefectClient, run: FlowRun, *, goes_on: bool) -> None:
    """Sets the state of a run whose process is gone. With `goes_on` the run is scheduled to start again."""
    if run.state is None:
        return
    state: State[None]
    if run.state.is_cancelling():
        state = Cancelled(message="its process is gone")
    elif goes_on and run.run_count < MOST_STARTS:
        state = AwaitingRetry(message="interrupted with the service; it resumes where it stopped")
    elif run.state.is_crashed():
        return
    else:
        state = Crashed(message="interrupted with the service")
    await client.set_flow_run_state(run.id, state, force=True)
    _log.info("the run %s was interrupted with the service: %s", run.name, state.name)


async def _is_orphan(client: PrefectClient, run: FlowRun) -> bool:
    """Returns whether the service that started a run is gone.

    If that service ran on another machine, it counts as gone when no process holds the run's slot any more. A
    run without a label was not started by a service, but for example by a worker. Such a run is not an
    orphan.
    """
    label = str(run.labels.get(LABEL, ""))
    if label.count(" ") != 2:
        return False
    host, pid, start = label.split(" ")
    if host == socket.gethostname():
        return _start_of(int(pid)) != start
    if run.state is None or run.deployment_id is None:
        return False
    try:
        limit = (await client.read_deployment(run.deployment_id)).global_concurrency_limit
    except ObjectNotFound:
        return False
    is_free = limit is not None and not limit.active_slots
    return is_free and datetime.now(UTC) - run.state.timestamp > _ELSEWHERE_AFTER
