"""New photos and the events that tell of them, on a real Prefect server: what starts a retraining."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType

from flows.watch_photos import _store_of, why_not_now
from tests.flows.serving import Json, Service, serving
from tests.models import tiny_model
from tests.toygan.uploads.uploads import picture
from toygan.registry.models import add_model
from toygan.registry.promotion import promote
from toygan.retraining.folder import store_id
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectStore
from toygan.uploads.index import read_tables
from toygan.uploads.retrained import read_retrained

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
INTERVAL_S, ENOUGH = 10, 20
SKU = "sku-1"  # of all photos: none is held out, so the retrainings are over once they have seen them


@pytest.fixture(scope="module")
def service(
    prefect_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("shop")
    store = open_store(folder / "store")
    promote(store, "tiny", add_model(store, tiny_model().write(folder / "tiny"), "tiny"))
    settings = {
        "TOYGAN_STORE": store.uri,
        "TOYGAN_WATCH_INTERVAL_S": str(INTERVAL_S),
        "TOYGAN_MIN_NEW_PHOTOS": str(ENOUGH),
        "TOYGAN_QUIET_S": "10",
        "TOYGAN_DEVICE": "cpu",
    }
    with serving(prefect_environment, folder, **settings) as served:
        yield served


@pytest.fixture
def store(service: Service) -> ObjectStore:
    return open_store(service.environment["TOYGAN_STORE"])


def upload(store: ObjectStore, numbers: range) -> None:
    for number in numbers:
        store.put(f"photos/brick/{SKU}/{number:04d}.png", picture(number))


def retrainings(service: Service, after: set[str]) -> list[Json]:
    return [run for run in service.runs("retrain") if run["id"] not in after]


def known(service: Service) -> set[str]:
    return {run["id"] for run in service.runs("retrain")}


def wait_until_seen(service: Service, store: ObjectStore, photos: int) -> str:
    """Waits until a retraining has used `count` photos and returns the id of its run."""

    def look() -> str | None:
        record = read_retrained(store)
        return record.run_id if record is not None and record.photos == photos else None

    run_id: str = service.wait_for(f"a retraining that has seen {photos} photos", look)
    assert service.finished(run_id)["state_type"] == "COMPLETED"
    return run_id


def test_five_hundred_uploads_start_one_retraining_that_sees_them_all(
    service: Service, store: ObjectStore
) -> None:
    """They come over more than one listing; the first of them asks for the retraining already."""
    service.wait_for("a listing", lambda: service.runs("watch-photos", "COMPLETED"))
    before, pause = known(service), threading.Event()
    for first in range(0, 500, 25):
        upload(store, range(first, first + 25))
        pause.wait(0.8)  # all in all longer than a listing waits for the next, each much shorter than QUIET_S
    run_id = wait_until_seen(service, store, 500)
    listings = len(service.runs("watch-photos", "COMPLETED"))
    service.wait_for("another listing", lambda: len(service.runs("watch-photos", "COMPLETED")) > listings + 1)
    assert [run["id"] for run in retrainings(service, before)] == [run_id]


def test_an_event_that_was_lost_is_made_up_for(service: Service, store: ObjectStore) -> None:
    identifier = service.deployment("retrain")["id"]
    automations = service.ask("POST", "/automations/filter", {})
    (trigger,) = [each for each in automations if each["actions"][0]["deployment_id"] == identifier]
    there = read_tables(store).index.num_rows
    before = known(service)
    service.ask("PATCH", f"/automations/{trigger['id']}", {"enabled": False})
    upload(store, range(there, there + ENOUGH))
    service.wait_for("an event that nobody hears", lambda: has_event(service, ENOUGH))
    assert not retrainings(service, before)
    service.ask("PATCH", f"/automations/{trigger['id']}", {"enabled": True})
    run_id = wait_until_seen(service, store, there + ENOUGH)
    assert [run["id"] for run in retrainings(service, before)] == [run_id]


def test_an_event_of_somebody_else_starts_a_retraining_whatever_its_count(
    service: Service, store: ObjectStore
) -> None:
    there = read_tables(store).index.num_rows
    before = known(service)
    upload(store, range(there, there + 1))
    event = {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": "toygan.photos.uploaded",
        "resource": {"prefect.resource.id": "toygan.photos.relay-of-the-bucket"},
        "payload": {"prefix": f"{store.uri}/photos/", "count": 1},
    }
    service.ask("POST", "/events", [event])
    run_id = wait_until_seen(service, store, there + 1)
    assert [run["id"] for run in retrainings(service, before)] == [run_id]


def test_a_retraining_that_died_with_its_machine_is_not_waited_for(
    service: Service, store: ObjectStore
) -> None:
    """Nobody was left to tell Prefect: for the server it runs, but it holds no slot."""
    deployment = service.deployment("retrain")
    dead = service.ask(
        "POST",
        "/flow_runs/",
        {
            "flow_id": deployment["flow_id"],
            "deployment_id": deployment["id"],
            "parameters": deployment["parameters"],
            "state": {"type": "RUNNING", "name": "Running"},
        },
    )
    before = known(service)
    there = read_tables(store).index.num_rows
    upload(store, range(there, there + ENOUGH))
    run_id = wait_until_seen(service, store, there + ENOUGH)
    assert [run["id"] for run in retrainings(service, before)] == [run_id]
    assert service.ask("GET", f"/flow_runs/{dead['id']}")["state_type"] == "CRASHED"


def has_event(service: Service, count: int) -> bool:
    """Whether the newest event of the store names `count` new photos."""
    store = open_store(service.environment["TOYGAN_STORE"])
    found = service.ask(
        "POST",
        "/events/filter",
        {
            "filter": {
                "event": {"name": ["toygan.photos.uploaded"]},
                "resource": {"id": [f"toygan.photos.{store_id(store)}"]},
                "order": "DESC",
            }
        },
    )
    return bool(found["events"]) and found["events"][0]["payload"]["count"] == count


def run(state: StateType, *, ended: timedelta = timedelta(0), since: timedelta = timedelta(0)) -> FlowRun:
    """A run that ended, or has been in its state, so long ago."""
    return FlowRun(
        flow_id=uuid4(),
        state=State(type=state, timestamp=NOW - since),
        end_time=NOW - ended,
    )


MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        ([], None),
        ([run(StateType.COMPLETED)], None),
        ([run(StateType.RUNNING, since=600 * MINUTE)], "is active"),
        ([run(StateType.SCHEDULED, since=600 * MINUTE)], "is active"),
        ([run(StateType.PENDING, since=2 * MINUTE)], "is active"),
        ([run(StateType.PENDING, since=11 * MINUTE)], None),  # its process never started
        ([run(StateType.CRASHED)], None),  # at once: it may have been killed
        ([run(StateType.FAILED, ended=4 * MINUTE), run(StateType.CRASHED)], "the last 2 retrainings failed"),
        ([run(StateType.FAILED, ended=6 * MINUTE), run(StateType.CRASHED)], None),
        ([run(StateType.FAILED, ended=9 * MINUTE), *[run(StateType.FAILED)] * 2], "the last 3"),
        ([run(StateType.FAILED, ended=11 * MINUTE), *[run(StateType.FAILED)] * 2], None),
        ([run(StateType.FAILED, ended=23 * 60 * MINUTE), *[run(StateType.FAILED)] * 30], "1 day"),
        ([run(StateType.FAILED), run(StateType.COMPLETED), run(StateType.FAILED)], None),
    ],
)
def test_when_no_retraining_is_asked_for(runs: list[FlowRun], reason: str | None) -> None:
    found = why_not_now(runs, NOW, NOW)
    assert found is None if reason is None else reason in (found or "")


def test_a_retraining_of_no_store_stops_no_listing() -> None:
    """A person may have asked for it with a mistyped URI: it has failed, and stays among the last ones."""
    asked = run(StateType.FAILED).model_copy(update={"parameters": {"parameters": {"store": "ftp://toys"}}})
    assert _store_of(asked) == "ftp://toys"


def cancelled(*, ended: timedelta, message: str | None = None) -> FlowRun:
    one = run(StateType.CANCELLED, ended=ended)
    assert one.state is not None
    return one.model_copy(update={"state": one.state.model_copy(update={"message": message})})


@pytest.mark.parametrize(
    ("runs", "newest_photo", "reason"),
    [
        ([cancelled(ended=5 * MINUTE)], NOW - 9 * MINUTE, "was cancelled"),
        ([cancelled(ended=5 * MINUTE)], NOW - MINUTE, None),
        ([cancelled(ended=600 * MINUTE), run(StateType.COMPLETED)], NOW - 601 * MINUTE, "new photos"),
        ([run(StateType.COMPLETED), cancelled(ended=5 * MINUTE)], NOW - 9 * MINUTE, None),
        # By Prefect itself, whose slot was gone.
        ([cancelled(ended=MINUTE, message="Deployment concurrency slot lost")], NOW - 9 * MINUTE, None),
        # A cancelled one is no failure, and hides none.
        ([cancelled(ended=MINUTE), *[run(StateType.FAILED, ended=4 * MINUTE)] * 2], NOW, "the last 2"),
    ],
)
def test_a_cancelled_retraining_waits_for_new_photos(
    runs: list[FlowRun], newest_photo: datetime, reason: str | None
) -> None:
    found = why_not_now(runs, NOW, newest_photo)
    assert found is None if reason is None else reason in (found or "")
