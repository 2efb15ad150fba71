"""Chooses the due runs that may start: one run of each deployment at a time, in the order of the requests.

Prefect alone would let every waiting run try again after half a minute, and start the first that tries.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.objects import FlowRun
from prefect.logging import get_logger

from flows.interrupted import mark_as_ours

_log = get_logger("toygan.service")
_AWAITING_SLOT = "AwaitingConcurrencySlot"
# typed Any, because Prefect's type of the routes lacks this route
BULK_DELETE: Any = "/flow_runs/bulk_delete"
_AT_A_TIME = 50  # Prefect's server accepts at most this number of runs in a request
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Turns:
    """Remembers the runs that this process has started and that have not ended, with their deployments."""

    def __init__(self, client: PrefectClient, drops: Collection[UUID]) -> None:
        """`drops` are the deployments whose older due runs are dropped if a newer run is due."""
        self._client, self._drops = client, drops
        self._let_go: dict[UUID, UUID | None] = {}
        self._said: set[UUID] = set()

    async def take(self, due: Iterable[FlowRun], under_way: Collection[UUID]) -> list[FlowRun]:
        """Returns those of the `due` runs that start now.

        `under_way` are the runs whose processes have not ended.
        """
        self._let_go = {
            run_id: deployment for run_id, deployment in self._let_go.items() if run_id in under_way
        }
        chosen = []
        waiting = sorted(
            (run for run in due if run.id not in under_way),
            key=lambda run: (str(run.deployment_id), *_asked(run)),
        )
        for deployment, group in groupby(waiting, key=lambda run: run.deployment_id):
            queue = list(group)
            if deployment in self._let_go.values():
                self._say_that_they_wait(queue)
                continue
            if deployment in self._drops:
                first = queue.pop()
                await self._drop(queue)
            else:
                first = queue[0]
                if await self._is_overtaking(first):
                    continue
            if await mark_as_ours(self._client, first.id):
                self._let_go[first.id] = deployment
                chosen.append(first)
        return chosen

    def _say_that_they_wait(self, queue: list[FlowRun]) -> None:
        for run in queue:
            if run.deployment_id not in self._drops and run.id not in self._said and _is_due(run):
                self._said.add(run.id)
                _log.info("the run %s waits until the run before it is over", run.name)

    async def _is_overtaking(self, run: FlowRun) -> bool:
        """Returns whether a run that was requested earlier still waits for the slot of the deployment.

        Such a run was started by another service, which holds or held the slot.
        """
        if run.deployment_id is None:
            return False
        waiting = await self._client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[run.deployment_id]),
                state=FlowRunFilterState(name=FlowRunFilterStateName(any_=[_AWAITING_SLOT])),
            )
        )
        return any(_asked(other) < _asked(run) for other in waiting if other.id != run.id)

    async def _drop(self, runs: list[FlowRun]) -> None:
        """Removes those of the runs that a schedule created.

        Nothing is lost, because the next run is due and finds the same files.
        """
        if superfluous := [run.id for run in runs if run.auto_scheduled]:
            await delete_runs(self._client, superfluous)


async def delete_runs(client: PrefectClient, runs: Sequence[UUID]) -> None:
    """Removes runs with their logs."""
    for first in range(0, len(runs), _AT_A_TIME):
        some = [str(run_id) for run_id in runs[first : first + _AT_A_TIME]]
        await client.request("POST", BULK_DELETE, json={"flow_runs": {"id": {"any_": some}}})


def _asked(run: FlowRun) -> tuple[datetime, datetime]:
    """Returns when a run should start and when it was created. Both stay the same while the run waits."""
    return run.expected_start_time or _LONG_AGO, run.created or _LONG_AGO


def _is_due(run: FlowRun) -> bool:
    return run.expected_start_time is not None and run.expected_start_time <= datetime.now(UTC)
