"""Extends Prefect's runner: it shuts down cleanly, starts runs in order, and makes up for missed nights."""

import asyncio
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID

import httpx
from prefect.client.schemas.objects import DeploymentSchedule, FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_logger
from prefect.runner import Runner

from flows.interrupted import close_run, take_up
from flows.lifeline import SERVICE_PID
from flows.missed import drop_late_listings, drop_late_nights, make_up_for_missed
from flows.nights import Nights, write_nights
from flows.turns import Turns
from toygan.errors import Retryable

# Prefect's default of 10 s is too long, because a retraining has to start within 90 s.
POLL_EVERY_S = 5
LOOK_AFTER_EVERY_S = 30
# Together they must be less than the ten seconds for which `docker stop` waits.
TERMINATE_S, KILL_S = 5.0, 2.0
# A shutdown that takes longer hangs, for example because the server hangs.
GIVE_UP_S = 30.0
_ENDED_BADLY = (StateType.CRASHED, StateType.FAILED)
_log = get_logger("toygan.service")


@dataclass(frozen=True, kw_only=True)
class Served:
    """What the service needs to know about a deployment that it serves."""

    name: str
    is_dropped: bool  # whether a late run is dropped when the next one is due
    # the schedules on the server before this start; empty on the first start
    schedules: Sequence[DeploymentSchedule]
    nights: Nights  # what is known of its scheduled runs; see make_up_for_missed


class ServiceRunner(Runner):
    """Starts the runs of its deployments, as processes that end with this one.

    It uses private attributes of Runner, because Prefect 3.8.8 has no public attributes for these purposes.
    """

    def __init__(self, *, grace: timedelta) -> None:
        # By default Prefect pauses the deployments when the runner stops, which removes their next runs.
        super().__init__(pause_on_shutdown=False, query_seconds=POLL_EVERY_S)
        self._grace = grace
        self._served: dict[UUID, Served] = {}
        self._nights: dict[UUID, Nights] = {}
        self._looked_after_at_s: float | None = None
        self._main: asyncio.Task[None] | None = None
        self._is_asked_to_stop = False
        self._stopping: asyncio.Task[None] | None = None

    def serve(self, deployments: Mapping[UUID, Served]) -> None:
        """Runs until SIGTERM or Ctrl-C. `deployments` are the applied deployments by id.

        Raises Retryable if Prefect's server does not answer for a while.
        """
        self._served = dict(deployments)
        for identifier, served in deployments.items():
            self._nights[identifier] = served.nights
            self._deployment_registry.register_deployment(identifier, served.name)
        os.environ[SERVICE_PID] = str(os.getpid())
        try:
            asyncio.run(self._serve())
        except asyncio.CancelledError:
            # Prefect's runner raises the CancelledError that ended its start or its loops.
            if not self._is_asked_to_stop:
                raise
        except ExceptionGroup as group:
            # Prefect raises RuntimeError after repeated errors.
            if group.split((RuntimeError, httpx.HTTPError))[1]:
                raise
            raise Retryable(
                "Prefect's server does not answer any more; start the server, then the service again. "
                "Interrupted runs resume"
            ) from group

    async def _serve(self) -> None:
        self._main = asyncio.current_task()
        await self.start()

    async def __aenter__(self) -> Self:
        """Replaces the poller's query for due runs by a query that respects the order of the runs."""
        await super().__aenter__()
        signal.signal(signal.SIGINT, self.handle_sigterm)
        poller = self._scheduled_run_poller
        turns = Turns(self._client, self._ids(is_dropped=True))
        ask = poller._get_scheduled_flow_runs

        async def due() -> list[FlowRun]:
            await self._look_after()
            return await turns.take(await ask(), frozenset(poller._submitting_flow_run_ids))

        setattr(poller, "_get_scheduled_flow_runs", due)  # noqa: B010 (mypy allows no assignment to a method)
        return self

    def handle_sigterm(self, *args: Any, **kwargs: Any) -> None:
        """Begins a clean shutdown. A second signal, or an alarm after GIVE_UP_S, ends the process at once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, GIVE_UP_S)
        self._is_asked_to_stop = True
        assert self._main is not None  # Prefect sets this handler in start()
        self._main.get_loop().call_soon_threadsafe(self._begin_to_stop)

    def _begin_to_stop(self) -> None:
        if self.started:
            self._stopping = asyncio.ensure_future(self._stop_in_good_order())
        elif self._main is not None:
            self._main.cancel()  # No run has been started yet, and the runner is not ready for a shutdown.

    async def _stop_in_good_order(self) -> None:
        """Ends the runs, by SIGTERM and then by SIGKILL, and marks them to resume at the next start."""
        self.stopping = self._scheduled_run_poller.stopping = True
        runs = set(self._scheduled_run_poller._submitting_flow_run_ids)
        _log.info("stopping, with %d active runs", len(runs))
        try:
            for number, patience_s in ((signal.SIGTERM, TERMINATE_S), (signal.SIGKILL, KILL_S)):
                self._send(number)
                await self._wait_for_runs(patience_s)
            for run_id in runs:
                await self._write_down(run_id)
        finally:
            # cancels Prefect's tasks that still wait for processes that have ended
            self._runs_task_group.cancel_scope.cancel()
            self._loops_task_group.cancel_scope.cancel()

    def _send(self, number: signal.Signals) -> None:
        for run_id in self._process_manager.flow_run_ids():
            handle = self._process_manager.get(run_id)
            if handle is not None and handle.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(handle.pid, number)

    async def _wait_for_runs(self, patience_s: float) -> None:
        give_up_at = time.monotonic() + patience_s
        while self._scheduled_run_poller._submitting_flow_run_ids and time.monotonic() < give_up_at:
            await asyncio.sleep(0.1)

    async def _write_down(self, run_id: UUID) -> None:
        run = await self._client.read_flow_run(run_id)
        is_over = run.state is not None and run.state.is_final() and run.state.type not in _ENDED_BADLY
        if run.state is not None and not is_over and not run.state.is_scheduled():
            await close_run(self._client, run, goes_on=run.deployment_id in self._ids(is_dropped=False))

    def _ids(self, *, is_dropped: bool) -> list[UUID]:
        return [identifier for identifier, served in self._served.items() if served.is_dropped is is_dropped]

    async def _look_after(self) -> None:
        """At the start and then every half minute, resumes orphaned runs and makes up for missed nights."""
        is_first = self._looked_after_at_s is None
        if self._looked_after_at_s and time.monotonic() < self._looked_after_at_s + LOOK_AFTER_EVERY_S:
            return
        await take_up(self._client, list(self._served), self._ids(is_dropped=False))
        if is_first:
            for identifier in self._ids(is_dropped=True):
                await drop_late_listings(self._client, identifier)
        for identifier in self._ids(is_dropped=False):
            if is_first:
                await drop_late_nights(self._client, identifier, self._grace)
            with suppress(ObjectNotFound):  # a person has deleted the deployment
                await self._make_up(identifier, is_first=is_first)
        self._looked_after_at_s = time.monotonic()

    async def _make_up(self, identifier: UUID, *, is_first: bool) -> None:
        there = await self._client.read_deployment(identifier)
        served, before = self._served[identifier], self._nights[identifier]
        schedules = served.schedules if is_first else there.schedules
        if not schedules:
            return
        if there.paused:
            after = before.after_look(datetime.now(UTC), (), is_paused=True)
        else:
            after = await make_up_for_missed(self._client, identifier, schedules, self._grace, before)
        if is_first or after != before:
            await write_nights(self._client, served.name, after)
            self._nights[identifier] = after
