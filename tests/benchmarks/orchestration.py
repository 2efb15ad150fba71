"""What Prefect itself costs: 1,000 shards that do nothing, on the default server with SQLite."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import httpx

from tests.servers import prefect_server

if TYPE_CHECKING:
    from toygan.generation.run import StartedRun

SHARDS = 1000
LIMIT_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Figures:
    """`task_ms` from the first shard's start to the last one's end, by shard; errors by what was logged."""

    task_ms: float
    recorded: int  # shards that the server knows as completed
    lock_errors: int


def measure(shards: int = SHARDS) -> Figures:
    """In a process of its own, which logs as a deployed flow does, with a server of its own."""
    with tempfile.TemporaryDirectory(prefix="toygan-benchmark-") as folder:
        home = Path(folder)
        with prefect_server(home, PREFECT_LOGGING_LEVEL="INFO") as environment:
            command = [sys.executable, "-m", "tests.benchmarks.orchestration", str(shards)]
            result = subprocess.run(command, env=environment, capture_output=True, text=True)
            if result.returncode:
                raise RuntimeError(result.stderr[-4000:])
            recorded = _wait_for(shards, environment["PREFECT_API_URL"])
        said = result.stderr + (home / "server.log").read_text()
    return Figures(
        task_ms=1e3 * float(result.stdout) / shards,
        recorded=recorded,
        lock_errors=said.count("database is locked"),
    )


def time_the_flow(shards: int) -> float:
    """Seconds that the shards take in this process."""
    from prefect import flow

    from flows import generate_catalog as module
    from flows.runners import BY_THE_SETTINGS

    run = _planned(shards)

    @flow(name="orchestration", task_runner=BY_THE_SETTINGS, persist_result=False)
    def orchestration() -> float:
        began_s = time.monotonic()
        module.compute_shards(run)
        return time.monotonic() - began_s

    with patch.object(module, "run_shard", _nothing):
        return orchestration()


def _nothing(*arguments: object) -> Mapping[str, Mapping[str, int]]:
    return {"brick": {"approved": 1}}


def _planned(shards: int) -> "StartedRun":
    from toygan.generation.run import StartedRun
    from toygan.generation.worker_spec import ModelPlace, WorkerSpec
    from toygan.planning.plan import FrozenPlan, RunSettings
    from toygan.planning.writer import Shard
    from toygan.storage.open_store import open_store

    settings = RunSettings(models={"main": "none@none"})
    shard = Shard(categories=("brick",), slots=1, sha256="")
    plan = FrozenPlan(
        run_id="orchestration",
        catalog_uri="none",
        catalog_sha256="",
        settings=settings,
        shards=(shard,) * shards,
        counts={},
        categories={},
    )
    return StartedRun(
        store=open_store("memory://none"),
        plan=plan,
        worker_spec=WorkerSpec(
            store="memory://none", models={"main": ModelPlace(reference="none", version="none")}
        ),
        pending=tuple(range(shards)),
        started_at=datetime.now(UTC),
        is_whole=True,
        commits=None,
        credit=None,
    )


def _wait_for(shards: int, url: str) -> int:
    """How many shards the server knows as completed in the end; it takes the news in after a while."""
    wanted = {"task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    limit_s = time.monotonic() + LIMIT_S
    known = 0
    while known < shards and time.monotonic() < limit_s:
        answer = httpx.post(f"{url}/task_runs/count", json=wanted, timeout=60)
        if answer.is_success:
            known = int(answer.json())
        time.sleep(0.5)
    return known


def main() -> None:
    found = measure()
    print(f"{SHARDS:,} shard tasks on SQLite, orchestration a task (at most 15 ms): {found.task_ms:.1f} ms")
    print(f"known to the server as completed: {found.recorded:,}; lock errors (0): {found.lock_errors}")


if __name__ == "__main__":
    print(time_the_flow(int(sys.argv[1])))
