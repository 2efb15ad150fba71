"""The same flow on threads, on Dask and on a real Ray cluster, of which a node is lost in mid-run."""

import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import psutil
import pytest
from prefect.task_runners import ThreadPoolTaskRunner
from prefect_dask import DaskTaskRunner

from flows.generate_catalog import generate_catalog
from flows.runners import cores_of_a_shard, make_runner, shard_resources
from flows.settings import ServiceSettings
from tests.flows.catalogs import products
from tests.flows.conftest import COMMAND_LIMIT_S, Toygan
from tests.models import tiny_model
from tests.ray_nodes import RayCluster, ray_cluster
from toygan.errors import BadInput
from toygan.publishing.verify import verify
from toygan.storage.open_store import open_store

RUN_ID = "nightly"
PRODUCTS = 240  # three shards of 80
RAY = {"TOYGAN_RUNNER": "ray", "TOYGAN_SHARD_CPUS": "1", "TOYGAN_SHARD_GPUS": "1"}


@pytest.fixture
def prefect_ray() -> ModuleType:
    module: ModuleType = pytest.importorskip("prefect_ray", reason="needs pip install 'toygan[ray]'")
    return module


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run of three shards; the store is still to be named."""
    folder = tmp_path_factory.mktemp("shop")
    model, catalog = tiny_model().write(folder / "tiny"), products(folder / "catalog.parquet", PRODUCTS)
    return ["generate", "--catalog", str(catalog), "--model", str(model), "--run-id", RUN_ID]


@pytest.fixture(scope="module")
def undisturbed(
    arguments: list[str], tmp_path_factory: pytest.TempPathFactory, toygan: Toygan
) -> dict[str, bytes]:
    """What the run leaves in a store when it runs on threads."""
    folder = tmp_path_factory.mktemp("threads")
    result = toygan(*arguments, "--output", folder)
    assert result.returncode == 0, result.stderr
    return whole(folder)


def whole(folder: Path) -> dict[str, bytes]:
    """The pictures and the live table of a store that has passed `verify`, by path."""
    verdict = verify(open_store(folder))
    assert (verdict.problems, verdict.finished_runs, verdict.open_runs) == ((), 1, ())
    paths = [*folder.glob("images/*/*/*"), folder / "current.parquet"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_dask_workers_make_the_same_pictures(
    arguments: list[str], undisturbed: dict[str, bytes], tmp_path: Path, toygan: Toygan
) -> None:
    """On a cluster of this machine, that ends with the run."""
    dask = {"TOYGAN_RUNNER": "dask", "TOYGAN_SHARD_CPUS": "1"}
    result = toygan(*arguments, "--output", tmp_path / "out", **dask)
    assert result.returncode == 0, result.stderr
    assert whole(tmp_path / "out") == undisturbed


@pytest.mark.usefixtures("prefect_ray")
def test_a_ray_node_that_is_lost_in_mid_run_costs_nothing_but_time(
    arguments: list[str],
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    prefect_environment: dict[str, str],
) -> None:
    """Two nodes with a core and a GPU each; one is killed while it computes a shard."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "flows.cli", *arguments, "--output", str(out)]
    with ray_cluster(2, prefect_environment, gpus=1) as cluster:
        environment = {**cluster.environment, **RAY, "TOYGAN_RUNNER_ADDRESS": cluster.address}
        with (tmp_path / "log").open("wb") as log:
            flow = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            lose_a_node(cluster, out, flow)
            code = flow.wait(COMMAND_LIMIT_S)
        finally:
            flow.kill()
            flow.wait()
    printed = (tmp_path / "log").read_text()
    assert code == 0, printed
    assert "Traceback" not in printed
    assert whole(out) == undisturbed


def lose_a_node(cluster: RayCluster, out: Path, flow: "subprocess.Popen[bytes]") -> None:
    """Kills the second node when both are at work and pictures come in."""
    end = time.monotonic() + COMMAND_LIMIT_S
    while not (any(out.glob("images/*/*/*")) and all(node.at_work() for node in cluster.nodes)):
        assert flow.poll() is None, "the run ended before a node was lost"
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    workers = cluster.nodes[1].at_work()
    for worker in workers:
        worker.suspend()  # so that its work is surely unfinished when the node dies
    assert len(list(out.glob("metadata/*/part-*"))) < 2
    cluster.nodes[1].kill()
    _, alive = psutil.wait_procs(workers, timeout=COMMAND_LIMIT_S)
    assert not alive


def test_threads_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOYGAN_RUNNER", raising=False)
    assert isinstance(make_runner(ServiceSettings()), ThreadPoolTaskRunner)
    assert isinstance(generate_catalog.task_runner.duplicate(), ThreadPoolTaskRunner)
    assert cores_of_a_shard() is None


def test_two_shards_at_a_time_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the device has work while the last pictures of a shard are checked."""
    monkeypatch.delenv("TOYGAN_SHARDS_AT_A_TIME", raising=False)
    assert make_runner(ServiceSettings()) == ThreadPoolTaskRunner(max_workers=2)
    assert make_runner(ServiceSettings()) != ThreadPoolTaskRunner(max_workers=1)
    monkeypatch.setenv("TOYGAN_SHARDS_AT_A_TIME", "1")
    assert make_runner(ServiceSettings()) == ThreadPoolTaskRunner(max_workers=1)


@pytest.mark.slow
def test_shards_on_threads_ask_ray_for_nothing(
    monkeypatch: pytest.MonkeyPatch, prefect_ray: ModuleType
) -> None:
    monkeypatch.delenv("TOYGAN_RUNNER", raising=False)
    with shard_resources():
        assert prefect_ray.context.RemoteOptionsContext.get().current_remote_options == {}


@pytest.mark.slow
def test_the_setting_is_read_when_a_flow_runs(
    monkeypatch: pytest.MonkeyPatch, prefect_ray: ModuleType
) -> None:
    monkeypatch.setenv("TOYGAN_RUNNER", "ray")
    monkeypatch.setenv("TOYGAN_RUNNER_ADDRESS", "ray://head:10001")
    monkeypatch.setenv("TOYGAN_SHARD_CPUS", "3")
    monkeypatch.setenv("TOYGAN_SHARD_GPUS", "0.5")
    runner = generate_catalog.task_runner.duplicate()
    assert isinstance(runner, prefect_ray.RayTaskRunner)
    assert runner.address == "ray://head:10001"
    assert cores_of_a_shard() == 3
    with shard_resources():
        wanted = {"num_cpus": 3, "num_gpus": 0.5, "max_calls": 0}
        assert prefect_ray.context.RemoteOptionsContext.get().current_remote_options == wanted


def test_a_dask_cluster_is_found_by_its_address() -> None:
    runner = make_runner(ServiceSettings(runner="dask", runner_address="tcp://scheduler:8786"))
    assert isinstance(runner, DaskTaskRunner)
    assert runner.address == "tcp://scheduler:8786"


def test_an_address_without_a_cluster_is_refused() -> None:
    with pytest.raises(BadInput, match="set TOYGAN_RUNNER to dask or ray"):
        make_runner(ServiceSettings(runner_address="tcp://scheduler:8786"))


@pytest.mark.parametrize(("runner", "module"), [("dask", "prefect_dask"), ("ray", "prefect_ray")])
def test_a_package_that_is_missing_is_named(
    runner: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BadInput, match=rf"pip install 'toygan\[{runner}\]'"):
        make_runner(ServiceSettings.model_validate({"runner": runner}))
