"""What 20 SIGKILLs cost, at random moments, over flow, worker and server of a deployed run.

A Prefect server on SQLite and `python -m flows.deployments generate-catalog` run as processes. One of them or
the process of the flow run is killed when a random number of new pictures has come. Server and worker are
started again; a run whose flow died is asked for again, under the same run id. In the end every store is
compared with that of an undisturbed run.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow.compute as pc

from catalog_schemas.images import APPROVED, read_current
from tests.flows.catalogs import products
from tests.models import tiny_model
from tests.servers import REPOSITORY, free_port
from toygan.planning.finished import read_manifest, read_part
from toygan.publishing.verify import verify
from toygan.storage.keys import CURRENT_KEY
from toygan.storage.open_store import open_store

KILLS = 20
PRODUCTS = 9_000
MOST_PICTURES = 350  # that come between two kills
LIMIT_S = 300.0
START_LIMIT_S = 30.0  # from the taking of a run to its process
_MARK = "TOYGAN_BENCHMARK"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """`again` counts, for every kill, the shards that began once more before the next one."""

    kills: Mapping[str, int]
    lost: int  # pictures of the undisturbed run that are missing or differ
    twice: int  # slots with more than one approved picture, and pictures that nothing names
    again: tuple[int, ...]
    elapsed_s: float


@dataclass
class Service:
    """The processes, and how they are found, killed and started again."""

    folder: Path
    port: int = field(default_factory=free_port)
    processes: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            _MARK: str(self.folder),
            "OMP_NUM_THREADS": "1",
            "PREFECT_API_URL": self.url,
            "PREFECT_HOME": str(self.folder / "home"),
            "PREFECT_LOGGING_LEVEL": "DEBUG",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PYTHONPATH": str(REPOSITORY),
            "TOYGAN_LOG_FORMAT": "json",
            "XDG_CACHE_HOME": str(self.folder),
        }

    def start(self, name: str) -> None:
        serve = ["prefect", "server", "start", "--no-ui", "--host", "127.0.0.1", "--port", str(self.port)]
        work = ["flows.deployments", "generate-catalog"]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *(serve if name == "server" else work)],
                env=self.environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if name == "server":
            wait_for("the server", lambda: self.ask("GET", "/health"))

    def ask(self, method: str, path: str, content: object = None) -> Any:
        """None where the server does not answer, or is too busy."""
        try:
            answer = httpx.request(method, self.url + path, json=content, timeout=30)
        except httpx.HTTPError:
            return None
        return answer.json() if answer.is_success else None

    def flow(self) -> psutil.Process | None:
        """The process of the flow run."""
        for process in self.all():
            try:
                if "prefect.engine" in process.cmdline():
                    return process
            except psutil.Error:
                continue
        return None

    def all(self) -> list[psutil.Process]:
        """By their mark: they are not always children of this process."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.pid != os.getpid() and process.environ().get(_MARK) == str(self.folder):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def is_idle(self) -> bool:
        """Whether no run waits to be started."""
        states = {"type": {"any_": ["PENDING", "SCHEDULED"]}}
        wanted = {"flow_runs": {"state": states, "tags": {"all_": ["asked"]}}}
        return bool(self.ask("POST", "/flow_runs/count", wanted) == 0)

    def bury_the_dead(self) -> None:
        """Says which runs died with their worker; the server learns it by itself, but in five minutes.

        Of a run that the worker had just taken, and not begun, the server learns nothing: it stays pending.
        """
        states = {"type": {"any_": ["RUNNING", "PENDING"]}}
        wanted = {"flow_runs": {"state": states, "tags": {"all_": ["asked"]}}}
        for run in self.ask("POST", "/flow_runs/filter", wanted) or []:
            since = datetime.now(UTC) - datetime.fromisoformat(run["state"]["timestamp"])
            if run["state_type"] == "PENDING" and since.total_seconds() < START_LIMIT_S:
                continue
            crashed = {"state": {"type": "CRASHED", "message": "its worker was killed"}, "force": True}
            self.ask("POST", f"/flow_runs/{run['id']}/set_state", crashed)

    def ask_for_a_run(self, parameters: Mapping[str, object]) -> None:
        found = wait_for("the deployment", lambda: self.ask("POST", "/deployments/filter", {}))
        path = f"/deployments/{found[0]['id']}/create_flow_run"
        content = {"parameters": {"parameters": parameters}, "tags": ["asked"]}
        wait_for("a run", lambda: self.ask("POST", path, content))

    def begun(self) -> Counter[tuple[str, int]]:
        """How often each shard of each run began, by the log of the flows."""
        lines = (self.folder / "worker.log").read_text().splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return Counter(
            (line["run"], line["shard"]) for line in entries if line["message"].endswith(" begins")
        )


@contextmanager
def service(folder: Path) -> Iterator[Service]:
    running = Service(folder)
    (folder / "home").mkdir()
    try:
        running.start("server")
        running.start("worker")
        yield running
    finally:
        for process in running.all():
            process.kill()
        for started in running.processes.values():
            started.wait()


def wait_for(what: str, look: Any) -> Any:
    limit_s = time.monotonic() + LIMIT_S
    while time.monotonic() < limit_s:
        if found := look():
            return found
        time.sleep(0.2)
    raise RuntimeError(f"{what} did not come in {LIMIT_S:.0f} s")


@dataclass(frozen=True, kw_only=True)
class Night:
    """One run into a store of its own; there are as many as the kills need."""

    store: Path
    parameters: Mapping[str, object]

    @property
    def run_id(self) -> str:
        return self.store.name

    def is_finished(self) -> bool:
        return read_manifest(open_store(self.store), self.run_id) is not None

    def pictures(self) -> int:
        return sum(len(files) for _, _, files in os.walk(self.store / "images"))

    def keep_going(self, running: Service) -> None:
        """Asks for the run, again if need be: one that is killed is not taken up by itself."""
        if running.flow() is not None:
            return
        running.bury_the_dead()
        if running.is_idle():
            running.ask_for_a_run({**self.parameters, "output": str(self.store), "run_id": self.run_id})

    def finish(self, running: Service) -> None:
        def is_over() -> bool:
            if self.is_finished() and running.flow() is None:
                return True
            self.keep_going(running)
            return False

        wait_for(f"the end of {self.run_id}", is_over)


def measure(kills: int = KILLS, total_products: int = PRODUCTS) -> Figures:
    chance = random.Random(20261124)
    targets = [("flow", "worker", "server")[number % 3] for number in range(kills)]
    chance.shuffle(targets)
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="toygan-benchmark-") as name:
        folder = Path(name)
        parameters = {
            "catalog": str(products(folder / "catalog.parquet", total_products)),
            "models": {"main": str(tiny_model().write(folder / "tiny"))},
        }
        undisturbed = Night(store=folder / "undisturbed", parameters=parameters)
        nights = [Night(store=folder / "night-0", parameters=parameters)]
        (folder / "service").mkdir()
        with service(folder / "service") as running:
            repeated = []
            for target in targets:
                _wait_for_the_moment(running, nights, chance.randint(0, MOST_PICTURES))
                repeated.append(_repeated(running))
                _kill(running, target)
            nights[-1].finish(running)
            repeated.append(_repeated(running))
            undisturbed.finish(running)
        found = [_compare(night, undisturbed) for night in nights]
    return Figures(
        kills=Counter(targets),
        lost=sum(lost for lost, _ in found),
        twice=sum(twice for _, twice in found),
        again=tuple(after - before for before, after in pairwise(repeated)),
        elapsed_s=time.monotonic() - began_s,
    )


def _wait_for_the_moment(running: Service, nights: list[Night], pictures: int) -> None:
    """Waits for more pictures of the present night; when it is over, the next one begins."""
    wanted = nights[-1].pictures() + pictures

    def is_time() -> bool:
        nonlocal wanted
        if nights[-1].is_finished() and running.flow() is None:
            store = nights[-1].store.with_name(f"night-{len(nights)}")
            nights.append(Night(store=store, parameters=nights[-1].parameters))
            wanted = pictures
        nights[-1].keep_going(running)
        return running.flow() is not None and nights[-1].pictures() >= wanted

    wait_for("the moment of a kill", is_time)


def _kill(running: Service, target: str) -> None:
    """By SIGKILL; server and worker are started again."""
    if target == "flow":
        if (process := running.flow()) is not None:
            process.kill()
            psutil.wait_procs([process], timeout=30)
        return
    running.processes[target].kill()
    running.processes[target].wait()
    running.start(target)


def _repeated(running: Service) -> int:
    """How many starts of shards so far were not the first one of their shard."""
    begun = running.begun()
    return sum(begun.values()) - len(begun)


def _compare(night: Night, undisturbed: Night) -> tuple[int, int]:
    """Pictures that are lost, and those that are there twice; raises RuntimeError for a damaged store."""
    store = open_store(night.store)
    if problems := verify(store).problems:
        raise RuntimeError(f"the store is not whole: {problems[:3]}")
    wanted, found = (
        {str(path.relative_to(each.store)): path.read_bytes() for path in each.store.glob("images/*/*/*")}
        for each in (undisturbed, night)
    )
    lost = sum(found.get(path) != data for path, data in wanted.items())
    live, wanted_live = (
        read_current((each.store / CURRENT_KEY).read_bytes()).drop_columns("run_id").to_pylist()
        for each in (night, undisturbed)
    )
    lost += sum(row not in live for row in wanted_live) if live != wanted_live else 0
    slots: Counter[tuple[str, int]] = Counter()
    manifest = read_manifest(store, night.run_id)
    assert manifest is not None
    for shard in range(manifest.shards):
        part = read_part(store, night.run_id, shard)
        rows = part.filter(pc.equal(part["decision"], APPROVED)).select(["sku", "image_index"]).to_pylist()
        slots.update((row["sku"], row["image_index"]) for row in rows)
    named = {row["image_uri"] for row in live}
    return lost, sum(count > 1 for count in slots.values()) + len(found.keys() - named)


def main() -> None:
    found = measure()
    counts = ", ".join(f"{count} of the {name}" for name, count in sorted(found.kills.items()))
    print(f"{sum(found.kills.values())} SIGKILLs ({counts}) in {found.elapsed_s:.0f} s")
    print(f"pictures lost (0): {found.lost}; there twice (0): {found.twice}")
    print(
        f"shards begun again a kill (at most 1): {sum(found.again) / len(found.again):.2f}; "
        f"after each: {' '.join(map(str, found.again))}"
    )


if __name__ == "__main__":
    main()
