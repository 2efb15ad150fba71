"""Runs that were broken off with the service: they go on when it is up again, or are closed.

The service labels every run that it starts with itself: host, process id and start of the process. Its runs
end with it (see `flows.lifeline`), so one that Prefect believes to be under way, and whose service is gone,
is not.
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
# A run that was broken off so often may be what breaks the service off.
MOST_STARTS = 5
_UNDER_WAY = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
_ELSEWHERE_AFTER = timedelta(minutes=1)
_log = get_logger("toygan.service")


def this_service() -> str:
    """What its label says: no other process, earlier or later, has the same."""
    return f"{socket.gethostname()} {os.getpid()} {_start_of(os.getpid())}"


def _start_of(pid: int) -> str | None:
    """In ticks since the machine came up; None for no such process. Source: proc(5), stat, field 22."""
    try:
        stat = Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]


async def mark_as_ours(client: PrefectClient, run_id: UUID) -> bool:
    """Labels a run that is about to start with this process; False for one that has been deleted."""
    try:
        await client.update_flow_run_labels(run_id, {LABEL: this_service()})
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise
        return False
    return True


async def take_up(client: PrefectClient, deployments: Collection[UUID], resumable: Collection[UUID]) -> None:
    """Closes the runs of these deployments whose service is gone; those of the `resumable` ones go on."""
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
    """Gives a run whose process is gone the state that says so; `goes_on`: it is to be started again."""
    if run.state is None:
        return
    state: State[None]
    if run.state.is_cancelling():
        state = Cancelled(message="its process is gone")
    elif goes_on and run.run_count < MOST_STARTS:
        state = AwaitingRetry(message="broken off with the service; it goes on where it stopped")
    elif run.state.is_crashed():
        return
    else:
        state = Crashed(message="broken off with the service")
    await client.set_flow_run_state(run.id, state, force=True)
    _log.info("the run %s was broken off with the service: %s", run.name, state.name)


async def _is_orphan(client: PrefectClient, run: FlowRun) -> bool:
    """Whether the service that started it is gone; on another machine: whether nobody holds its slot any
    more.

    A run without a label was started by somebody else, a worker for instance.
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
