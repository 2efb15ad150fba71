"""The service on real Prefect servers: what is deployed is scheduled, started and finished."""

from collections.abc import Iterator

import pytest

from catalog_schemas.images import read_current
from flows.parameters import ExportParameters, GenerateParameters, RetrainParameters, WatchParameters
from tests.flows.catalogs import products
from tests.flows.serving import Service, serving
from tests.models import tiny_model
from tests.servers import postgresql_server, prefect_server
from tests.toygan.uploads.uploads import upload
from toygan.registry.models import add_model
from toygan.registry.promotion import promote
from toygan.storage.keys import CURRENT_KEY
from toygan.storage.open_store import open_store
from toygan.uploads.retrained import read_retrained

pytestmark = pytest.mark.service

FLOWS = {
    "generate-catalog": GenerateParameters,
    "watch-photos": WatchParameters,
    "export-channel": ExportParameters,
    "retrain": RetrainParameters,
}
PRODUCTS, UPLOADS = 6, 3


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def service(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """The deployments of a shop with a small champion and a small catalog."""
    folder = tmp_path_factory.mktemp("shop")
    store = open_store(folder / "store")
    upload(store, range(UPLOADS))
    promote(store, "tiny", add_model(store, tiny_model().write(folder / "tiny"), "tiny"))
    settings = {
        "TOYGAN_STORE": store.uri,
        "TOYGAN_CATALOG": str(products(folder / "catalog.parquet", PRODUCTS)),
        "TOYGAN_CRON": "30 1 * * *",
        "TOYGAN_TIMEZONE": "Europe/Berlin",
        "TOYGAN_WATCH_INTERVAL_S": "10",
        "TOYGAN_QUIET_S": "1",
        "TOYGAN_MIN_NEW_PHOTOS": str(UPLOADS),
        "TOYGAN_CHANNELS": "google, web",
        "TOYGAN_DEVICE": "cpu",
    }
    if request.param == "sqlite":
        environment = request.getfixturevalue("prefect_environment")
        with serving(environment, folder, **settings) as served:
            yield served
        return
    with (
        postgresql_server(folder) as database,
        prefect_server(folder, PREFECT_SERVER_DATABASE_CONNECTION_URL=database) as environment,
        serving(environment, folder, **settings) as served,
    ):
        yield served


def test_every_deployment_has_its_schedule_its_trigger_and_its_limit(service: Service) -> None:
    found = {name: service.deployment(name) for name in FLOWS}
    schedules = {name: [each["schedule"] for each in one["schedules"]] for name, one in found.items()}
    (cron,), (interval,) = schedules["generate-catalog"], schedules["watch-photos"]
    assert (cron["cron"], cron["timezone"]) == ("30 1 * * *", "Europe/Berlin")
    assert (interval["interval"], schedules["retrain"]) == (10.0, [])
    limits = {
        name: (one["global_concurrency_limit"]["limit"], one["concurrency_options"]["collision_strategy"])
        for name, one in found.items()
    }
    assert limits == {
        "generate-catalog": (1, "ENQUEUE"),
        "watch-photos": (1, "CANCEL_NEW"),
        "export-channel": (1, "ENQUEUE"),
        "retrain": (1, "ENQUEUE"),
    }
    # A deployment is there a moment before its trigger is.
    (trigger,) = service.wait_for(
        "the trigger of retrain",
        lambda: [
            each
            for each in service.ask("POST", "/automations/filter", {})
            if each["actions"][0]["deployment_id"] == found["retrain"]["id"]
        ],
    )
    assert trigger["trigger"]["expect"] == ["toygan.photos.uploaded"]
    assert trigger["trigger"]["match"] == {"prefect.resource.id": "toygan.photos.*"}


@pytest.mark.parametrize("name", FLOWS)
def test_the_form_of_a_deployment_describes_every_parameter(service: Service, name: str) -> None:
    schema = service.deployment(name)["parameter_openapi_schema"]
    model = FLOWS[name]
    properties = schema["definitions"][model.__name__]["properties"]
    assert {field: each["description"] for field, each in properties.items()} == {
        field: info.description for field, info in model.model_fields.items()
    }
    assert all(properties[field]["description"] for field in model.model_fields)


def test_a_run_that_is_asked_for_draws_the_catalog(service: Service) -> None:
    first, second = service.start("generate-catalog"), service.start("generate-catalog")
    runs = [service.finished(run_id) for run_id in (first, second)]
    assert [run["state_type"] for run in runs] == ["COMPLETED", "COMPLETED"]
    # They took turns: the second one found nothing left to do but what had no approved picture yet.
    assert runs[0]["end_time"] <= runs[1]["start_time"] or runs[1]["end_time"] <= runs[0]["start_time"]
    store = open_store(service.environment["TOYGAN_STORE"])
    assert read_current(store.get(CURRENT_KEY)).num_rows > 0
    # The second run of the catalog started the second export.
    service.wait_for("both exports", lambda: len(service.runs("export-channel", "COMPLETED")) >= 2)
    assert all(store.exists(f"exports/{channel}/export.parquet") for channel in ("google", "web"))


def test_uploads_are_found_by_the_schedule_and_start_a_retraining(service: Service) -> None:
    store = open_store(service.environment["TOYGAN_STORE"])
    (run,) = service.wait_for("a retraining", lambda: service.runs("retrain", "COMPLETED"))
    assert run["state"]["message"].startswith("nothing to do: the photos are too few")
    record = read_retrained(store)
    assert record is not None
    assert (record.photos, record.run_id) == (UPLOADS, run["id"])
    watched = service.runs("watch-photos", "COMPLETED")
    assert watched
    assert all(each["auto_scheduled"] for each in watched)
