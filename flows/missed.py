"""Makes up for the last nightly run that was missed while the service was down, and drops earlier missed
runs.

Prefect's server creates the runs of the next nights in advance, and creates them again when a deployment
changes. So a missed night usually has a late run. It has none if the server was down, or has just removed the
run.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import DeploymentSchedule, FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.logging import get_logger
from prefect.server.schemas.schedules import SCHEDULE_TYPES
from prefect.states import Cancelled, Scheduled
from pydantic import TypeAdapter

from flows.nights import Nights, runs_since
from flows.turns import delete_runs

_AT_ONCE = timedelta(seconds=1)
# the time that the server needs to create the runs of a changed deployment
_SERVER_NEEDS = timedelta(seconds=30)
_SCHEDULES: TypeAdapter[SCHEDULE_TYPES] = TypeAdapter(SCHEDULE_TYPES)
_log = get_logger("toygan.service")


async def drop_late_nights(client: PrefectClient, deployment: UUID, grace: timedelta) -> None:
    """Cancels the scheduled runs that should have started while nobody served the deployment.

    Keeps the last of these runs if it is late by at most `grace`. The message of a cancelled run gives the
    reason.
    """
    late = await _late(client, deployment)
    for number, run in enumerate(late):
        is_last = number == len(late) - 1
        if is_last and run.expected_start_time and datetime.now(UTC) - run.expected_start_time <= grace:
            _log.info("the run %s is late because the service was down; it starts now", run.name)
            continue
        why = "the service was down" + ("" if is_last else ", and a later run makes up for it")
        await client.set_flow_run_state(run.id, Cancelled(message=f"missed: {why}"), force=True)


async def drop_late_listings(client: PrefectClient, deployment: UUID) -> None:
    """Removes the scheduled runs that should have started while nobody served the deployment."""
    while late := await _late(client, deployment):
        await delete_runs(client, [run.id for run in late])


async def make_up_for_missed(
    client: PrefectClient,
    deployment: UUID,
    schedules: Sequence[DeploymentSchedule],
    grace: timedelta,
    nights: Nights,
) -> Nights:
    """Creates a run for the last scheduled time, if this time is at most `grace` ago and has no run.

    Creates none if a person paused the deployment at that time, or cancelled or deleted the run. `nights` is
    what is known of the deployment. Returns what is known after this look.
    """
    now = datetime.now(UTC)
    runs = await client.read_flow_runs(**runs_since(deployment, now - grace))
    nights = nights.after_look(now, runs, is_paused=False)
    due = await _last_due(schedules, now, grace)
    if due is None or (nights.settled is not None and due - _AT_ONCE <= nights.settled):
        return nights
    # The idempotency key makes sure that the run is created only once.
    run = await client.create_flow_run_from_deployment(
        deployment,
        state=Scheduled(scheduled_time=due),
        idempotency_key=f"missed {deployment} {due.isoformat()}",
    )
    when = due.isoformat(timespec="minutes")
    _log.info("the nightly run of %s was missed; the run %s makes up for it", when, run.name)
    return nights.model_copy(update={"settled": due})


async def _last_due(
    schedules: Sequence[DeploymentSchedule], now: datetime, grace: timedelta
) -> datetime | None:
    """Returns the last scheduled time for which the server should have created a run by now."""
    due = None
    for each in schedules:
        known_since = max(now - grace, each.updated or now)
        if each.active and known_since < now - _SERVER_NEEDS:
            schedule = _SCHEDULES.validate_python(each.schedule.model_dump())
            times = await schedule.get_dates(start=known_since, end=now - _SERVER_NEEDS)
            due = max([*times, *([due] if due else [])], default=None)
    return due


async def _late(client: PrefectClient, deployment: UUID) -> list[FlowRun]:
    """Returns the late runs that a schedule created and that have never started, the oldest first."""
    found = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            next_scheduled_start_time=FlowRunFilterNextScheduledStartTime.model_validate(
                {"before_": datetime.now(UTC) - _AT_ONCE}
            ),
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
    )
    return [run for run in found if run.auto_scheduled and run.run_count == 0]
