"""A run that is killed again and again ends as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.flows.catalogs import products
from tests.flows.conftest import COMMAND_LIMIT_S, Toygan
from tests.models import tiny_model
from toygan.publishing.verify import verify
from toygan.storage.open_store import open_store

KILLS = 10
PRODUCTS = 450  # three shards of 150
RUN_ID = "nightly"
SEED = 20261213  # its moments need 259 of the run's files, so a kill may come late on a busy machine


def files_in(store: Path) -> dict[str, bytes]:
    """The pictures and the live table of a store, by path."""
    pictures = {
        str(path.relative_to(store)): path.read_bytes() for path in (store / "images").rglob("*.webp")
    }
    return {**pictures, "current.parquet": (store / "current.parquet").read_bytes()}


def count_files(store: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(store))


def test_ten_kills_leave_no_trace(
    tmp_path: Path, toygan: Toygan, prefect_environment: dict[str, str]
) -> None:
    """Killed by SIGKILL ten times, each time after a random number of files has come into the store."""
    model = tiny_model().write(tmp_path / "tiny")
    catalog = products(tmp_path / "catalog.parquet", PRODUCTS)
    arguments = ["generate", "--catalog", str(catalog), "--model", str(model), "--run-id", RUN_ID]
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    result = toygan(*arguments, "--output", undisturbed)
    assert result.returncode == 0, result.stderr

    chance = random.Random(SEED)
    command = [sys.executable, "-m", "flows.cli", *arguments, "--output", str(killed)]
    with (tmp_path / "log").open("wb") as log:
        for _ in range(KILLS):
            # From the first file of the plan to more than a shard's pictures.
            moment = count_files(killed) + chance.choice([1, 4, 5, chance.randint(6, 220)])
            process = subprocess.Popen(command, env=prefect_environment, stdout=log, stderr=log)
            limit_s = time.monotonic() + COMMAND_LIMIT_S
            while process.poll() is None and count_files(killed) < moment and time.monotonic() < limit_s:
                time.sleep(0.005)
            assert process.poll() is None, "the run ended before it was killed"
            workers = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGKILL)
            process.wait()
            _, alive = psutil.wait_procs(workers, timeout=COMMAND_LIMIT_S)
            assert not alive, "workers outlived the run"

    result = toygan(*arguments, "--output", killed)
    assert result.returncode == 0, result.stderr
    verdict = verify(open_store(killed))
    assert verdict.problems == ()
    assert verdict.finished_runs == 1
    assert verdict.open_runs == ()
    assert files_in(killed) == files_in(undisturbed)
    assert len(files_in(killed)) > PRODUCTS / 2
