"""Fixtures shared by all tests."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from hypothesis import settings

# Before anything imports torch. Small networks are faster on one thread, trainings come out the same bit for
# bit, and several test processes share the cores. Processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from flows.reach import reach_loopback_directly
from tests.hub_server import TOKEN, Hub, running_hub
from tests.servers import S3Server, fresh_bucket, moto_server, rclone_server

# Examples are the same in every run, may take as long as they like, and are few, as the fast tests must be.
settings.register_profile("toygan", settings.get_profile("ci"), max_examples=30)
settings.load_profile("toygan")

_SEED = 67280421310721  # of a torch that nobody has seeded

REPOSITORY = Path(__file__).parent.parent
SERVERS = {
    "hub",
    "moto",
    "prefect_environment",
    "rclone",
    "toygan",
}  # fixtures that start servers or processes


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks each test that asks for a server, by a fixture or a parameter."""
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if SERVERS & {*item.fixturenames, *(each for each in parameters if isinstance(each, str))}:
            item.add_marker(pytest.mark.service)


def pytest_configure() -> None:
    """Keeps the user's settings of Prefect and toygan, and a proxy, from the tests and their processes."""
    for name in {name for name in os.environ if name.startswith(("PREFECT_", "TOYGAN_"))} - {
        "TOYGAN_TOYBRICKS"
    }:
        del os.environ[name]
    os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="toygan-prefect-")
    reach_loopback_directly()


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["PREFECT_HOME"], ignore_errors=True)


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """Each test gets the random numbers that it gets alone, whichever tests ran before it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(_SEED)


@pytest.fixture(scope="session")
def toybricks() -> Path:
    """The folder of the real photos and catalog; tests that need it are skipped where it is missing."""
    default = REPOSITORY.parent / "shared" / "data" / "toybricks"
    folder = Path(os.environ.get("TOYGAN_TOYBRICKS", default))
    if not (folder / "catalog.parquet").is_file():
        pytest.skip(f"the toybricks data is not at {folder}; set TOYGAN_TOYBRICKS to run this test")
    return folder


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server: `rclone serve s3` with real files behind it."""
    with rclone_server(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    """Moto's imitation of AWS."""
    with moto_server() as server:
        yield server


@pytest.fixture
def a_shard_per_category(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small categories of this process share no shards, so a small run has several shards."""
    from toygan.planning import writer

    monkeypatch.setattr(writer, "FEW_SLOTS", 0)


@pytest.fixture
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibrations of this process are made of few pictures."""
    from toygan.calibration import calibrate

    few = partial(calibrate.CalibrationSamples, generated=20, profiled=8)
    monkeypatch.setattr(calibrate, "CalibrationSamples", few)


@pytest.fixture
def s3_uri(rclone: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a fresh bucket on the real server, which the environment leads to."""
    return fresh_bucket(rclone, monkeypatch)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A server, an empty cache, and a user who is logged in."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # the server has no such store
    with running_hub() as running:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.url)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            running.url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        yield running
