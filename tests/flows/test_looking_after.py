"""What the service looks after, on a real Prefect server: order, missed nights, broken-off runs."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import PrefectClient, SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import DeploymentSchedule, FlowRun
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Failed, Running, Scheduled

from flows.interrupted import LABEL, take_up, this_service
from flows.kept import keep_changes, read_deployment, remember, wanted_by_settings
from flows.missed import drop_late_listings, drop_late_nights, make_up_for_missed
from flows.turns import Turns
from flows.watch_photos import forget_listings

pytestmark = pytest.mark.service

HOUR = timedelta(hours=1)
Done = TypeVar("Done")
Ask = Callable[[Callable[[PrefectClient], Awaitable[Done]]], Done]


@flow
def night(parameters: dict[str, int] | None = None) -> None:
    """Never run here."""


@pytest.fixture(autouse=True)
def _server(prefect_environment: dict[str, str]) -> Iterator[None]:
    with temporary_settings({PREFECT_API_URL: prefect_environment["PREFECT_API_URL"]}):
        yield


def ask(call: Callable[[PrefectClient], Awaitable[Done]]) -> Done:
    """What `call` returns of a client of the server."""

    async def inside() -> Done:
        async with get_client() as client:
            return await call(client)

    return asyncio.run(inside())


@pytest.fixture
def now() -> datetime:
    """When the test began; other tests may have taken hours before it."""
    return datetime.now(UTC)


@pytest.fixture
def deployment() -> UUID:
    """A deployment that nobody serves."""

    async def make(client: PrefectClient) -> UUID:
        flow_id = await client.create_flow(night)
        return await client.create_deployment(flow_id, f"night-{uuid4()}", paused=True)

    return ask(make)


def every_hour(now: datetime) -> str:
    """The cron of a schedule that was last due five minutes before."""
    return f"{(now - timedelta(minutes=5)).minute} * * * *"


def hourly(now: datetime, *, known_for: timedelta) -> DeploymentSchedule:
    known_since = now - known_for
    return DeploymentSchedule(
        schedule=CronSchedule(cron=every_hour(now)),
        created=known_since,
        updated=known_since,
    )


async def runs_of(client: PrefectClient, deployment: UUID) -> list[FlowRun]:
    ours = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
    return await client.read_flow_runs(
        flow_run_filter=ours, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=200
    )


async def late_runs(client: PrefectClient, deployment: UUID, now: datetime, hours: int) -> None:
    """Runs that the schedule made for each of the last hours, none of which has started."""
    schedule = {"schedule": {"cron": every_hour(now)}, "active": True}
    await client.request("POST", f"/deployments/{deployment}/schedules", json=[schedule])
    await client.request("PATCH", f"/deployments/{deployment}", json={"paused": False})
    times = {"start_time": (now - hours * HOUR).isoformat(), "end_time": now.isoformat(), "min_runs": hours}
    await client.request("POST", f"/deployments/{deployment}/schedule", json=times)


def test_a_missed_night_is_made_up_for_once(deployment: UUID, now: datetime) -> None:
    async def call(client: PrefectClient) -> list[FlowRun]:
        for _ in range(2):
            await make_up_for_missed(client, deployment, [hourly(now, known_for=4 * HOUR)], 6 * HOUR)
        return await runs_of(client, deployment)

    (run,) = ask(call)
    assert run.expected_start_time is not None
    assert timedelta(0) < datetime.now(UTC) - run.expected_start_time < HOUR + timedelta(minutes=1)


@pytest.mark.parametrize(
    ("known_for", "grace", "active"),
    [(timedelta(0), 6 * HOUR, True), (4 * HOUR, timedelta(0), True), (4 * HOUR, 6 * HOUR, False)],
)
def test_a_night_that_was_not_missed_is_not_made_up_for(
    deployment: UUID, now: datetime, known_for: timedelta, grace: timedelta, active: bool
) -> None:
    """The schedule is new, the time of grace is over, or a person switched the schedule off."""
    schedule = hourly(now, known_for=known_for).model_copy(update={"active": active})

    async def call(client: PrefectClient) -> list[FlowRun]:
        await make_up_for_missed(client, deployment, [schedule], grace)
        return await runs_of(client, deployment)

    assert ask(call) == []


def test_of_seven_late_nights_the_last_one_is_left(deployment: UUID, now: datetime) -> None:
    async def call(client: PrefectClient) -> list[FlowRun]:
        await late_runs(client, deployment, now, 7)
        await drop_late_nights(client, deployment, 6 * HOUR)
        await make_up_for_missed(client, deployment, [hourly(now, known_for=9 * HOUR)], 6 * HOUR)
        return await runs_of(client, deployment)

    late = [run for run in ask(call) if run.expected_start_time and run.expected_start_time < now]
    *others, last = late
    assert len(others) >= 5
    assert all(run.state and run.state.is_cancelled() for run in others)
    assert "missed: the service was down" in str(others[0].state and others[0].state.message)
    assert last.state is not None
    assert last.state.is_scheduled()


def test_late_listings_are_removed(deployment: UUID, now: datetime) -> None:
    async def call(client: PrefectClient) -> list[FlowRun]:
        await late_runs(client, deployment, now, 5)
        before = await runs_of(client, deployment)
        assert [run for run in before if run.expected_start_time and run.expected_start_time < now]
        await drop_late_listings(client, deployment)
        return await runs_of(client, deployment)

    assert not [run for run in ask(call) if run.expected_start_time and run.expected_start_time < now]


@pytest.mark.parametrize(
    ("label", "goes_on", "state"),
    [
        ("gone", True, "AwaitingRetry"),
        ("gone", False, "Crashed"),
        ("here", True, "Running"),
        ("elsewhere", True, "Running"),
        (None, True, "Running"),
    ],
)
def test_a_run_whose_service_is_gone_is_taken_up(
    deployment: UUID, label: str | None, goes_on: bool, state: str
) -> None:
    host, pid, _ = this_service().split(" ")
    labels = {"gone": f"{host} {pid} 1", "here": this_service(), "elsewhere": "another-host 1 1"}

    async def call(client: PrefectClient) -> FlowRun:
        run = await client.create_flow_run_from_deployment(deployment)
        if label:
            await client.update_flow_run_labels(run.id, {LABEL: labels[label]})
        await client.set_flow_run_state(run.id, Running(), force=True)
        await take_up(client, [deployment], [deployment] if goes_on else [])
        return await client.read_flow_run(run.id)

    found = ask(call).state
    assert found is not None
    assert found.name == state


def test_waiting_runs_start_in_the_order_in_which_they_were_asked_for(
    deployment: UUID, now: datetime
) -> None:
    """The first one waited for a slot: Prefect has put it off, behind the others."""

    async def call(client: PrefectClient) -> tuple[list[list[UUID]], list[UUID]]:
        asked = []
        for minutes in (9, 8, 7):
            at = Scheduled(scheduled_time=now - timedelta(minutes=minutes))
            asked.append(await client.create_flow_run_from_deployment(deployment, state=at))
        first, second, third = asked
        waits = Scheduled(name="AwaitingConcurrencySlot", scheduled_time=now + HOUR)
        await client.set_flow_run_state(first.id, waits, force=True)
        turns = Turns(client, [])
        taken = [
            await turns.take([third, second], []),
            await turns.take([third, second, first], []),
            await turns.take([third, second], [first.id]),
        ]
        await client.set_flow_run_state(first.id, Completed(), force=True)
        taken.append(await turns.take([third, second], []))
        labelled = await client.read_flow_run(first.id)
        assert labelled.labels[LABEL] == this_service()
        return [[run.id for run in runs] for runs in taken], [run.id for run in asked]

    taken, (first, second, _) = ask(call)
    # Nothing overtakes the first one, neither while it waits nor while it runs.
    assert taken == [[], [first], [], [second]]


def test_what_a_person_changed_stays_and_the_rest_follows_the_settings() -> None:
    name = f"night-{uuid4()}"

    def start(client: SyncPrefectClient, first: int, second: int, cron: str) -> tuple[str, ...]:
        """What the service does at a start, with these settings."""
        ours = RunnerDeployment.from_flow(
            night,
            name=name,
            parameters={"parameters": {"first": first, "second": second}},
            schedule=Cron(cron),
        )
        there, wanted = read_deployment(client, ours), wanted_by_settings(ours)
        kept = () if there is None else keep_changes(client, ours, there)
        ours.apply()
        remember(client, name, wanted)
        return kept

    with get_client(sync_client=True) as client:

        def found() -> tuple[dict[str, int], str, UUID]:
            there = client.read_deployment_by_name(f"night/{name}")
            (schedule,) = there.schedules
            assert isinstance(schedule.schedule, CronSchedule)
            return there.parameters["parameters"], schedule.schedule.cron, schedule.id

        assert start(client, 1, 1, "0 1 * * *") == ()
        made = found()
        assert start(client, 1, 1, "0 1 * * *") == ()
        assert found() == made  # not made again, which would cost the runs that it has made
        deployment = client.read_deployment_by_name(f"night/{name}").id
        by_hand = {"parameters": {"parameters": {"first": 1, "second": 5}}}
        client.request("PATCH", f"/deployments/{deployment}", json=by_hand)
        assert start(client, 2, 1, "0 2 * * *") == ("second=5",)
        assert found()[:2] == ({"first": 2, "second": 5}, "0 2 * * *")
        client.update_deployment_schedule(deployment, found()[2], schedule=CronSchedule(cron="0 5 * * *"))
        assert start(client, 3, 1, "0 3 * * *") == ("second=5", "its schedule")
        assert found()[:2] == ({"first": 3, "second": 5}, "0 5 * * *")


def test_the_listings_of_the_last_hour_are_kept(deployment: UUID, now: datetime) -> None:
    async def call(client: PrefectClient) -> None:
        for state in (Completed(), Failed(), Running()):
            run = await client.create_flow_run_from_deployment(deployment)
            await client.set_flow_run_state(run.id, state, force=True)

    async def left(client: PrefectClient) -> set[str | None]:
        return {run.state_name for run in await runs_of(client, deployment)}

    ask(call)
    forget_listings(now, deployment)
    assert ask(left) == {"Completed", "Failed", "Running"}
    forget_listings(now + 2 * HOUR, deployment)
    assert ask(left) == {"Failed", "Running"}
    forget_listings(now + 25 * HOUR, deployment)
    assert ask(left) == {"Running"}


def test_this_process_is_no_other() -> None:
    assert this_service() == this_service()
    assert f" {os.getpid()} " in this_service()
