"""Remembers what the service has seen of the scheduled runs of a deployment.

The service makes up for a night that has no run, see `flows.missed`. A night may also have no run because a
person paused the deployment, or cancelled or deleted the run. Such a night must not be made up for, also if
the service has been started again since. So each look at the runs is stored in a Prefect variable.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID

from prefect.client.orchestration import PrefectClient, SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.logging import get_logger
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from flows.kept import variable_of

# Prefect's server accepts at most 5,000 characters in a variable.
_MOST_AHEAD = 10
_log = get_logger("toygan.service")


class Nights(BaseModel):
    """What the service has seen of a deployment, until its last look."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    was_paused: bool = False  # at the last look
    settled: AwareDatetime | None = None  # no night up to this time is made up for
    skipped: tuple[AwareDatetime, ...] = ()  # the later nights that are not made up for
    ahead: dict[UUID, AwareDatetime] = {}  # the next runs that a schedule created, by id

    def after_look(self, now: datetime, runs: Sequence[FlowRun], *, is_paused: bool) -> Self:
        """Returns what is known after a look at the deployment at the time `now`.

        `runs` are the deployment's runs of the last hours and all later ones.
        """
        if is_paused:
            return self.model_copy(update={"was_paused": True, "ahead": {}})
        starts = {run.id: run.expected_start_time for run in runs if run.expected_start_time}
        ahead = {
            run.id: starts[run.id]
            for run in runs
            if run.auto_scheduled and run.state and run.state.is_scheduled() and starts[run.id] > now
        }
        settled = {time for time in (self.settled, *starts.values()) if time and time <= now}
        skipped = {*self.skipped, *(starts[run.id] for run in runs if run.state and run.state.is_final())}
        # If the server removes runs because a deployment changes, it removes all runs that are ahead. So if
        # one of these is still there, a person has deleted the others.
        if self.ahead.keys() & ahead.keys():
            skipped |= {time for run_id, time in self.ahead.items() if run_id not in starts}
        # The deployment may have been paused until just before this look.
        settled |= {time for time in skipped if time <= now} | ({now} if self.was_paused else set())
        return type(self)(
            settled=max(settled, default=None),
            skipped=tuple(sorted(time for time in skipped if time > now)[:_MOST_AHEAD]),
            ahead=dict(sorted(ahead.items(), key=lambda item: item[1])[:_MOST_AHEAD]),
        )


def runs_since(deployment: UUID, since: datetime) -> dict[str, Any]:
    """Returns the arguments with which a client reads the runs that should start after `since`."""
    after = FlowRunFilterExpectedStartTime.model_validate({"after_": since})
    ours = FlowRunFilterDeploymentId(any_=[deployment])
    return {
        "flow_run_filter": FlowRunFilter(deployment_id=ours, expected_start_time=after),
        "sort": FlowRunSort.EXPECTED_START_TIME_DESC,
    }


def look_before_start(
    client: SyncPrefectClient, name: str, there: DeploymentResponse | None, grace: timedelta
) -> Nights:
    """Returns what is known of a deployment after a look at it before the service applies it again.

    `there` is the deployment on the server; None if the service has never made it. The look comes before,
    because the server removes the runs that are ahead when a deployment is applied.
    """
    if there is None or not there.schedules:
        return Nights()
    now = datetime.now(UTC)
    runs = () if there.paused else client.read_flow_runs(**runs_since(there.id, now - grace))
    return _read_nights(client, name).after_look(now, runs, is_paused=there.paused)


async def write_nights(client: PrefectClient, name: str, nights: Nights) -> None:
    """Stores what is known of the deployment `name`, in one step."""
    variable, value = _variable(name), nights.model_dump(mode="json")
    if await client.read_variable_by_name(variable):
        await client.update_variable(VariableUpdate(name=variable, value=value))
    else:
        await client.create_variable(VariableCreate(name=variable, value=value))


def _read_nights(client: SyncPrefectClient, name: str) -> Nights:
    """Reads the variable. Nothing is known if it is damaged, for example by a person."""
    found = client.read_variable_by_name(_variable(name))
    try:
        return Nights() if found is None else Nights.model_validate(found.value)
    except ValidationError:
        _log.warning("the Prefect variable %s is damaged; it is written anew", _variable(name))
        return Nights()


def _variable(name: str) -> str:
    return f"{variable_of(name)}_nights"
