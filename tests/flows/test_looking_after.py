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
from prefect.client.schemas.actions import VariableUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import DeploymentSchedule, FlowRun
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Completed, Failed, Running, Scheduled

from flows.interrupted import LABEL, take_up, this_service
from flows.kept import keep_changes, read_deployment, remember, wanted_by_settings
from flows.missed import drop_late_listings, drop_late_nights, make_up_for_missed
from flows.nights import Nights, look_before_start, write_nights
from flows.service import Served, ServiceRunner
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


def is_before(run: FlowRun, time: datetime) -> bool:
    return run.expected_start_time is not None and run.expected_start_time < time


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


async def runs_ahead(client: PrefectClient, deployment: UUID, now: datetime) -> None:
    """The next runs of the schedule, which the server creates in advance."""
    times = {"start_time": now.isoformat(), "end_time": (now + 4 * HOUR).isoformat(), "min_runs": 3}
    await client.request("POST", f"/deployments/{deployment}/schedule", json=times)


async def look(client: PrefectClient, deployment: UUID, now: datetime, nights: Nights) -> Nights:
    """A look of the service that makes up for the night of five minutes before, if it was missed."""
    known = [hourly(now, known_for=9 * HOUR)]
    return await make_up_for_missed(client, deployment, known, 6 * HOUR, nights)


async def look_before(client: PrefectClient, deployment: UUID, now: datetime) -> Nights:
    """What a look found ten minutes before, when the last run was still ahead."""
    then = now - timedelta(minutes=10)
    return Nights().after_look(then, await runs_of(client, deployment), is_paused=False)


def test_a_missed_night_is_made_up_for_once(deployment: UUID, now: datetime) -> None:
    async def call(client: PrefectClient) -> list[FlowRun]:
        nights = Nights()
        for _ in range(2):
            nights = await look(client, deployment, now, nights)
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
        await make_up_for_missed(client, deployment, [schedule], grace, Nights())
        return await runs_of(client, deployment)

    assert ask(call) == []


def test_of_seven_late_nights_the_last_one_is_left(deployment: UUID, now: datetime) -> None:
    async def call(client: PrefectClient) -> list[FlowRun]:
        await late_runs(client, deployment, now, 7)
        await drop_late_nights(client, deployment, 6 * HOUR)
        await look(client, deployment, now, Nights())
        return await runs_of(client, deployment)

    late = [run for run in ask(call) if run.expected_start_time and run.expected_start_time < now]
    *others, last = late
    assert len(others) >= 5
    assert all(run.state and run.state.is_cancelled() for run in others)
    assert "missed: the service was down" in str(others[0].state and others[0].state.message)
    assert last.state is not None
    assert last.state.is_scheduled()


@pytest.mark.parametrize("is_made_up_for", [False, True])
def test_a_run_that_a_person_deleted_is_not_created_again(
    deployment: UUID, now: datetime, is_made_up_for: bool
) -> None:
    async def call(client: PrefectClient) -> list[FlowRun]:
        if not is_made_up_for:
            await late_runs(client, deployment, now, 1)
        nights = await look(client, deployment, now, Nights())
        for run in await runs_of(client, deployment):
            await client.delete_flow_run(run.id)
        await look(client, deployment, now, nights)
        return await runs_of(client, deployment)

    assert not [run for run in ask(call) if run.expected_start_time and run.expected_start_time < now]


@pytest.mark.parametrize("is_cancelled_first", [False, True])
def test_a_run_that_a_person_deleted_between_two_looks_is_not_created_again(
    deployment: UUID, now: datetime, is_cancelled_first: bool
) -> None:
    """For example while the service was down."""

    async def call(client: PrefectClient) -> list[FlowRun]:
        await late_runs(client, deployment, now, 3)
        await runs_ahead(client, deployment, now)
        *_, last = [run for run in await runs_of(client, deployment) if is_before(run, now)]
        if is_cancelled_first:
            await client.set_flow_run_state(last.id, Cancelled(), force=True)
        nights = await look_before(client, deployment, now)
        await client.delete_flow_run(last.id)
        await look(client, deployment, now, nights)
        return await runs_of(client, deployment)

    assert not [run for run in ask(call) if is_before(run, now) and not is_before(run, now - HOUR)]


def test_a_night_whose_run_the_server_removed_is_made_up_for(deployment: UUID, now: datetime) -> None:
    """It removes all runs that are ahead when a deployment changes, and creates later ones again."""

    async def call(client: PrefectClient) -> list[FlowRun]:
        await late_runs(client, deployment, now, 3)
        await runs_ahead(client, deployment, now)
        nights = await look_before(client, deployment, now)
        for run in await runs_of(client, deployment):
            await client.delete_flow_run(run.id)
        await runs_ahead(client, deployment, now)
        await look(client, deployment, now, nights)
        return await runs_of(client, deployment)

    made_up, *ahead = ask(call)
    assert is_before(made_up, now)
    assert ahead
    assert not any(is_before(run, now) for run in ahead)


@pytest.mark.parametrize("is_stopped", [False, True])
def test_a_night_in_a_pause_is_not_made_up_for(deployment: UUID, now: datetime, is_stopped: bool) -> None:
    """Also not if the service was stopped in the pause, and started when it was over."""
    name, schedules = f"night-{uuid4()}", [hourly(now, known_for=9 * HOUR)]

    def service(client: PrefectClient, nights: Nights) -> ServiceRunner:
        runner = ServiceRunner(grace=6 * HOUR)
        served = Served(name=name, is_dropped=False, schedules=schedules, nights=nights)
        runner._served, runner._nights, runner._client = {deployment: served}, {deployment: nights}, client
        return runner

    async def call(client: PrefectClient) -> list[FlowRun]:
        await client.pause_deployment(deployment)
        served = service(client, Nights())
        await served._make_up(deployment, is_first=True)
        await client.resume_deployment(deployment)
        if is_stopped:
            there = (await client.read_deployment(deployment)).model_copy(update={"schedules": schedules})
            with get_client(sync_client=True) as other:
                served = service(client, look_before_start(other, name, there, 6 * HOUR))
        await served._make_up(deployment, is_first=True)
        return await runs_of(client, deployment)

    assert ask(call) == []


def test_a_schedule_that_was_switched_on_is_known_since_then(deployment: UUID, now: datetime) -> None:
    """So no night before is made up for: see `hourly`."""

    async def call(client: PrefectClient) -> list[datetime | None]:
        await late_runs(client, deployment, now, 1)
        updated = []
        for active in (False, True):
            await asyncio.sleep(1.1)  # the server counts seconds
            (schedule,) = (await client.read_deployment(deployment)).schedules
            await client.update_deployment_schedule(deployment, schedule.id, active=active)
            (schedule,) = (await client.read_deployment(deployment)).schedules
            updated.append(schedule.updated)
        return updated

    off, on = ask(call)
    assert off is not None
    assert on is not None
    assert off < on


def test_what_is_known_of_the_nights_is_stored(deployment: UUID, now: datetime) -> None:
    name = f"night-{uuid4()}"
    later = (now + HOUR, now + 2 * HOUR)
    known = Nights(settled=now - HOUR, skipped=later, was_paused=True, ahead={uuid4(): now + 3 * HOUR})

    async def call(client: PrefectClient) -> None:
        await late_runs(client, deployment, now, 1)
        for nights in (Nights(), known):
            await write_nights(client, name, nights)

    ask(call)
    with get_client(sync_client=True) as client:
        client.pause_deployment(deployment)
        there = client.read_deployment(deployment)
        assert look_before_start(client, name, there, HOUR) == known.model_copy(update={"ahead": {}})
        for damaged in ("nonsense", ["nonsense"], {"settled": 1, "skipped": "never"}, None):
            client.update_variable(
                VariableUpdate(name=f"toygan_{name.replace('-', '_')}_nights", value=damaged)
            )
            assert look_before_start(client, name, there, HOUR) == Nights(was_paused=True)
        assert look_before_start(client, name, None, HOUR) == Nights()


def test_a_time_of_a_wrong_clock_does_not_stop_later_nights(now: datetime) -> None:
    nights = Nights(settled=now + 900 * HOUR).after_look(now, [], is_paused=False)
    assert nights == Nights()


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
