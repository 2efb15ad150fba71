"""`prefect deploy` with flows/prefect.yaml to a process work pool, and a worker that runs it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog_schemas.images import read_current
from flows.deployments import make_deployments
from flows.events import on_uploads
from flows.settings import ServiceSettings, check_for_work_pools
from tests.conftest import REPOSITORY
from tests.flows.catalogs import products
from tests.flows.conftest import COMMAND_LIMIT_S
from tests.flows.serving import Service, running
from tests.models import tiny_model
from toygan.errors import BadInput
from toygan.registry.models import add_model
from toygan.registry.promotion import promote
from toygan.storage.keys import CURRENT_KEY
from toygan.storage.open_store import open_store

POOL = "toys"
PREFECT = [sys.executable, "-m", "prefect"]


@pytest.fixture(scope="module")
def service(
    prefect_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A worker, and the deployments that `prefect deploy` made."""
    folder = tmp_path_factory.mktemp("shop")
    store = open_store(folder / "store")
    promote(store, "tiny", add_model(store, tiny_model().write(folder / "tiny"), "tiny"))
    settings = {
        "TOYGAN_STORE": store.uri,
        "TOYGAN_CATALOG": str(products(folder / "catalog.parquet", 6)),
        "TOYGAN_DEVICE": "cpu",
    }
    worker = [*PREFECT, "worker", "start", "--pool", POOL, "--type", "process"]
    with running(worker, prefect_environment, folder, **settings) as service:
        service.wait_for("the work pool", lambda: service.ask("POST", "/work_pools/filter", {}))
        deploy = [*PREFECT, "--no-prompt", "deploy", "--prefect-file", "flows/prefect.yaml", "--all"]
        done = subprocess.run(
            deploy,
            env={**service.environment, "TOYGAN_POOL": POOL},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        yield service


def test_the_deployments_are_those_that_are_served_without_a_pool(service: Service) -> None:
    for served in make_deployments(ServiceSettings()):
        deployed = service.deployment(served.name)
        assert deployed["work_pool_name"] == POOL
        schedules = [each["schedule"] for each in deployed["schedules"]]
        for ours, theirs in zip(served.schedules or [], schedules, strict=True):
            wanted = ours.schedule.model_dump(mode="json", exclude={"anchor_date"})  # type: ignore[union-attr]
            assert {key: theirs[key] for key in wanted} == wanted
        assert deployed["global_concurrency_limit"]["limit"] == served.concurrency_limit
        assert (
            deployed["concurrency_options"]["collision_strategy"]
            == served.concurrency_options.collision_strategy
        )
        assert deployed["parameter_openapi_schema"] == served._parameter_openapi_schema.model_dump()
    automations = service.ask("POST", "/automations/filter", {})
    (trigger,) = [
        each
        for each in automations
        if each["actions"][0]["deployment_id"] == service.deployment("retrain")["id"]
    ]
    ours = on_uploads(quiet_s=ServiceSettings().quiet_s)
    assert set(trigger["trigger"]["expect"]) == set(ours.expect)
    assert trigger["trigger"]["match"] == ours.match.model_dump()
    assert trigger["trigger"]["within"] == ours.within.total_seconds()


def test_a_worker_runs_what_was_asked_for_with_its_own_settings(service: Service) -> None:
    run = service.finished(service.start("generate-catalog"))
    assert run["state_type"] == "COMPLETED", service.log.read_text()[-4000:]
    store = open_store(service.environment["TOYGAN_STORE"])
    assert read_current(store.get(CURRENT_KEY)).num_rows > 0


@pytest.mark.parametrize("name", ["store", "catalog", "work", "photos"])
def test_a_path_that_would_be_gone_with_the_run_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOYGAN_STORE", str(tmp_path))
    check_for_work_pools()
    monkeypatch.setenv(f"TOYGAN_{name.upper()}", "toys")
    with pytest.raises(BadInput, match=f"TOYGAN_{name.upper()} is 'toys'"):
        check_for_work_pools()


def test_the_default_store_is_refused_in_a_work_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOYGAN_STORE", raising=False)
    with pytest.raises(BadInput, match="TOYGAN_STORE"):
        check_for_work_pools()
