"""What comes in between: Ctrl-C, a full disk, a worker that is killed, a server that is not there."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.flows.catalogs import products
from tests.flows.conftest import COMMAND_LIMIT_S, Toygan
from tests.models import tiny_model
from tests.servers import ask_prefect
from toygan.publishing.verify import verify
from toygan.storage.open_store import open_store

pytestmark = pytest.mark.service

RUN_ID = "nightly"
FAILED = 1


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """Three shards of 100 products; the store is still to be named."""
    model, catalog = tiny_model().write(tmp_path / "tiny"), products(tmp_path / "catalog.parquet", 300)
    return ["generate", "--catalog", str(catalog), "--model", str(model), "--run-id", RUN_ID]


@contextmanager
def started(
    arguments: list[str], environment: dict[str, str], **options: Any
) -> Iterator["subprocess.Popen[str]"]:
    """The command as a process that leads a group of its own, as in a terminal."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_until(is_so: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + COMMAND_LIMIT_S
    while not is_so():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def images(folder: Path) -> int:
    return sum(1 for _ in folder.glob("images/*/*/*.webp"))


def assert_finished(folder: Path) -> None:
    verdict = verify(open_store(folder))
    assert verdict.problems == ()
    assert (verdict.finished_runs, verdict.open_runs) == (1, ())
    assert verdict.pictures == 300


def test_ctrl_c_ends_a_run_that_can_go_on(
    arguments: list[str], tmp_path: Path, toygan: Toygan, prefect_environment: dict[str, str]
) -> None:
    """A terminal sends it to the workers, too."""
    arguments += ["--output", str(tmp_path / "out")]
    with started(arguments, prefect_environment) as process:
        wait_until(lambda: images(tmp_path / "out") > 10, process)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=COMMAND_LIMIT_S)
    assert process.returncode == FAILED
    assert out == ""
    assert "stopping when the active shards are done" in err
    assert f"toygan: stopped; the same command with --run-id {RUN_ID} resumes it" in err
    assert "Traceback" not in err
    assert verify(open_store(tmp_path / "out")).open_runs == (RUN_ID,)
    found = ask_prefect(
        prefect_environment["PREFECT_API_URL"],
        "POST",
        "/flow_runs/filter",
        # Schedules of other tests go on: their runs to come would be the latest, and those that a
        # concurrency limit cancels have a start, too.
        {
            "flows": {"name": {"any_": ["generate-catalog"]}},
            "flow_runs": {"start_time": {"is_null_": False}},
            "sort": "START_TIME_DESC",
            "limit": 1,
        },
    )
    assert found[0]["state_type"] == "CRASHED"

    result = toygan(*arguments)
    assert result.returncode == 0, result.stderr
    assert_finished(tmp_path / "out")


def test_an_interrupted_run_without_a_server_leaves_no_process(
    arguments: list[str], tmp_path: Path, prefect_environment: dict[str, str]
) -> None:
    environment = {**prefect_environment, "PREFECT_HOME": str(tmp_path / "prefect")}
    del environment["PREFECT_API_URL"]
    arguments += ["--output", str(tmp_path / "out")]
    with started(arguments, environment) as process:
        wait_until(lambda: images(tmp_path / "out") > 10, process)
        others = psutil.Process(process.pid).children(recursive=True)
        assert not any("uvicorn" in " ".join(other.cmdline()) for other in others)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=COMMAND_LIMIT_S)
    assert process.returncode == FAILED
    assert f"stopped; the same command with --run-id {RUN_ID} resumes it" in err
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(others, timeout=COMMAND_LIMIT_S)
    assert not alive
    assert verify(open_store(tmp_path / "out")).open_runs == (RUN_ID,)


def test_a_server_that_is_not_there_is_named(arguments: list[str], tmp_path: Path, toygan: Toygan) -> None:
    result = toygan(*arguments, "--output", tmp_path / "out", PREFECT_API_URL="http://127.0.0.1:9/api")
    assert result.returncode == FAILED
    assert "Prefect cannot reach http://127.0.0.1:9/api" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_worker_that_is_killed_costs_a_retry_and_nothing_else(
    arguments: list[str], tmp_path: Path, toygan: Toygan, prefect_environment: dict[str, str]
) -> None:
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    with started([*arguments, "--output", str(disturbed)], prefect_environment) as process:
        wait_until(lambda: images(disturbed) > 10, process)
        worker, *_ = [  # a machine with eight cores has two of them
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if any("spawn_main" in part for part in child.cmdline())
        ]
        worker.suspend()  # so that its work is surely unfinished when it dies
        time.sleep(0.5)
        worker.kill()
        _, err = process.communicate(timeout=COMMAND_LIMIT_S)
    assert process.returncode == 0, err
    assert "a worker process that checks pictures was killed" in err
    assert "Traceback" not in err
    assert_finished(disturbed)
    assert toygan(*arguments, "--output", undisturbed).returncode == 0
    for name in ("images", "current.parquet"):
        difference = subprocess.run(["diff", "-r", undisturbed / name, disturbed / name], capture_output=True)
        assert difference.returncode == 0, difference.stdout


@dataclass
class SmallDisk:
    """Has room for the plan and some of the pictures."""

    folder: Path
    limits: dict[str, Any]  # with which a process has to be started
    grow: Callable[[], object]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small file system; without the right to mount one, a limit on the size of files, as with a quota."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not shutil.which("mount") or subprocess.run([*MOUNT, folder], capture_output=True).returncode:
        yield SmallDisk(folder, {"preexec_fn": limit_files}, lambda: None)
        return
    try:
        grow = ["mount", "-o", "remount,size=16m", folder]
        yield SmallDisk(folder, {}, lambda: subprocess.run(grow, check=True))
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


MOUNT = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs"]


def limit_files() -> None:
    """Pictures and plan fit, a shard's metadata does not."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))


def test_a_full_disk_fails_the_run_which_goes_on_when_there_is_room(
    arguments: list[str],
    small_disk: SmallDisk,
    toygan: Toygan,
    prefect_environment: dict[str, str],
) -> None:
    store = small_disk.folder / "out"
    arguments += ["--output", str(store)]
    with started(arguments, prefect_environment, **small_disk.limits) as process:
        _, err = process.communicate(timeout=COMMAND_LIMIT_S)
    assert process.returncode == FAILED
    assert "the disk is full" in err
    assert "free some space and run again" in err
    assert f"run again with the run id {RUN_ID}" in err
    assert "Traceback" not in err
    assert verify(open_store(store)).problems == ()
    assert verify(open_store(store)).open_runs == (RUN_ID,)

    small_disk.grow()
    result = toygan(*arguments)
    assert result.returncode == 0, result.stderr
    assert_finished(store)
