"""Keeps a person's changes to a deployment on Prefect's pages when the service starts again.

At each start, the service stores the values that its settings give a deployment in a Prefect variable. A
value on the server that differs from the stored value was changed by a person and is kept. Any other value is
set by the present settings.
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
    """Returns the server's deployment of this name; None if the service has never made it."""
    try:
        return client.read_deployment_by_name(deployment.full_name)
    except ObjectNotFound:
        return None


def wanted_by_settings(deployment: RunnerDeployment) -> Wanted:
    """Returns the values that the settings give a deployment, in the form in which they are stored."""
    return {
        "parameters": deepcopy(_parameters(deployment)),
        "schedules": _comparable(deployment.schedules or ()),
    }


def keep_changes(
    client: SyncPrefectClient, deployment: RunnerDeployment, there: DeploymentResponse
) -> tuple[str, ...]:
    """Copies a person's changes from the server's deployment `there` into `deployment` before it is applied.

    Returns a description of each change. If the server's schedules stay unchanged, the field `schedules` is
    removed from `deployment`. Applying the same schedules again would remove the runs that they created.
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
    """Stores the values that the settings gave a deployment, which has just been applied."""
    variable = variable_of(name)
    if client.read_variable_by_name(variable):
        client.update_variable(VariableUpdate(name=variable, value=wanted))
    else:
        client.create_variable(VariableCreate(name=variable, value=wanted))


def variable_of(name: str) -> str:
    """Returns the name of the Prefect variable in which the service stores what it knows of a deployment."""
    return f"toygan_{name.replace('-', '_')}"


def _remembered(client: SyncPrefectClient, name: str) -> Wanted:
    found = client.read_variable_by_name(variable_of(name))
    return found.value if found is not None and isinstance(found.value, dict) else {}


def _leave_out_schedules(deployment: RunnerDeployment) -> None:
    """Removes the field `schedules`, because the server would not accept null for it."""
    deployment.schedules = None
    deployment.model_fields_set.discard("schedules")


def _parameters(deployment: RunnerDeployment | DeploymentResponse) -> dict[str, Any]:
    given: dict[str, Any] = deployment.parameters.get("parameters", {})
    return given


def _comparable(schedules: Iterable[Any]) -> list[str]:
    """Returns the schedules without the fields that the server adds, in a fixed order."""
    return sorted(json.dumps(_meaning(each), sort_keys=True) for each in schedules)


def _meaning(schedule: DeploymentSchedule) -> dict[str, object]:
    fields: dict[str, object] = schedule.schedule.model_dump(mode="json")
    times: dict[str, object] = {
        name: fields[name] for name in ("cron", "interval", "rrule") if name in fields
    }
    return {**times, "timezone": fields.get("timezone") or "UTC", "active": schedule.active is not False}
