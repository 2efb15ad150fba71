"""What a person changed at a deployment, on Prefect's pages, stays changed when the service starts again.

The service remembers, in a Prefect variable a deployment, what its settings last wanted. Whatever differs
from that was changed by a person and stays; whatever does not gets what today's settings want.
"""

import json
from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound

Wanted = dict[str, Any]


def read_deployment(client: SyncPrefectClient, deployment: RunnerDeployment) -> DeploymentResponse | None:
    """The deployment of this name as the server has it; None before the first start."""
    try:
        return client.read_deployment_by_name(deployment.full_name)
    except ObjectNotFound:
        return None


def wanted_by_settings(deployment: RunnerDeployment) -> Wanted:
    """What is to be remembered of a deployment that holds nothing but what the settings want."""
    return {
        "parameters": deepcopy(_parameters(deployment)),
        "schedules": _comparable(deployment.schedules or ()),
    }


def keep_changes(
    client: SyncPrefectClient, deployment: RunnerDeployment, there: DeploymentResponse
) -> tuple[str, ...]:
    """Takes over into `deployment`, which is about to be applied, what a person changed at `there`.

    Returns what that is. Schedules that are as they should be are left out: with new ones, the runs that the
    old ones made would go.
    """
    wanted, before = wanted_by_settings(deployment), _remembered(client, deployment.name)
    ours, theirs = _parameters(deployment), _parameters(there)
    kept = []
    for name in sorted(theirs.keys() & ours.keys() & before.get("parameters", {}).keys()):
        if theirs[name] != before["parameters"][name]:
            ours[name] = theirs[name]
            kept.append(f"{name}={theirs[name]!r}")
    schedules = _comparable(there.schedules)
    if schedules != before.get("schedules", schedules):
        kept.append("its schedule")
        _leave_out_schedules(deployment)
    elif schedules == wanted["schedules"]:
        _leave_out_schedules(deployment)
    if there.paused:
        kept.append("it is paused")
        deployment.paused = True
    return tuple(kept)


def remember(client: SyncPrefectClient, name: str, wanted: Wanted) -> None:
    """Writes down what the settings want of the deployment that has just been applied."""
    variable = _variable(name)
    if client.read_variable_by_name(variable):
        client.update_variable(VariableUpdate(name=variable, value=wanted))
    else:
        client.create_variable(VariableCreate(name=variable, value=wanted))


def _remembered(client: SyncPrefectClient, name: str) -> Wanted:
    found = client.read_variable_by_name(_variable(name))
    return found.value if found is not None and isinstance(found.value, dict) else {}


def _leave_out_schedules(deployment: RunnerDeployment) -> None:
    """The server takes no null for them, only nothing."""
    deployment.schedules = None
    deployment.model_fields_set.discard("schedules")


def _variable(name: str) -> str:
    return f"toygan_{name.replace('-', '_')}"


def _parameters(deployment: RunnerDeployment | DeploymentResponse) -> dict[str, Any]:
    given: dict[str, Any] = deployment.parameters.get("parameters", {})
    return given


def _comparable(schedules: Iterable[Any]) -> list[str]:
    """What a schedule means, without what the server adds to it."""
    return sorted(json.dumps(_meaning(each), sort_keys=True) for each in schedules)


def _meaning(schedule: DeploymentSchedule) -> dict[str, object]:
    told: dict[str, object] = schedule.schedule.model_dump(mode="json")
    times: dict[str, object] = {name: told[name] for name in ("cron", "interval", "rrule") if name in told}
    return {**times, "timezone": told.get("timezone") or "UTC", "active": schedule.active is not False}
