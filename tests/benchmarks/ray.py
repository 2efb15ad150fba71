"""How much faster two Ray nodes are than one: each node's processes on one core, start-up apart."""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.flows.catalogs import product, write_catalog
from tests.ray_nodes import ray_cluster
from tests.servers import prefect_server

SHARDS_A_CATEGORY = 2
SHARD = 512  # see toygan.planning.plan.freeze_plan
WARM_UP = 8  # products of a category: enough that every node has loaded the model

# A first run makes the nodes load the model; the second one is timed, from the same driver.
DRIVER = """
import sys, time
from prefect import flow
from flows.generate_catalog import compute_shards
from flows.runners import BY_THE_SETTINGS
from toygan.generation.run import RunRequest, finish_run, start_run

@flow(name="ray", task_runner=BY_THE_SETTINGS, persist_result=False)
def timed(folder: str) -> float:
    warm, work = (
        request = RunRequest(catalog=f"{folder}/{name}.parquet", output=f"{folder}/{name}", run_id=name)
        start_run(resolve_run(request))
        for name in ("warm", "work")
    )
    compute_shards(warm)
    began_s = time.monotonic()
    compute_shards(work)
    elapsed_s = time.monotonic() - began_s
    finish_run(work, "benchmark")
    return elapsed_s

if __name__ == "__main__":
    print("elapsed_s", timed(sys.argv[1]))
"""


@dataclass(frozen=True, kw_only=True)
class Figures:
    one_node_s: float
    two_nodes_s: float

    @property
    def ratio(self) -> float:
        return self.one_node_s / self.two_nodes_s


def measure(shards_a_category: int = SHARDS_A_CATEGORY) -> Figures:
    if len(os.sched_getaffinity(0)) < 2:
        raise RuntimeError("two nodes with a core each need two cores")
    with tempfile.TemporaryDirectory(prefix="toygan-benchmark-") as folder:
        (Path(folder) / "home").mkdir()
        with prefect_server(Path(folder) / "home") as environment:
            elapsed_s = [
                _time(nodes, Path(folder) / f"nodes-{nodes}", environment, shards_a_category)
                for nodes in (1, 2)
            ]
    return Figures(one_node_s=elapsed_s[0], two_nodes_s=elapsed_s[1])


def _time(nodes: int, folder: Path, environment: dict[str, str], shards_a_category: int) -> float:
    from toygan.artifact.config import config_of
    from toygan.registry.models import resolve

    folder.mkdir()
    categories = config_of(resolve(None, None)).categories
    for name, count in (("warm", WARM_UP), ("work", SHARD * shards_a_category)):
        rows = [
            product(number, category=categories[number % len(categories)])
            for number in range(count * len(categories))
        ]
        write_catalog(folder / f"{name}.parquet", rows)
    driver = folder / "driver.py"
    driver.write_text(DRIVER)
    with ray_cluster(nodes, environment | {"OMP_NUM_THREADS": "1"}, pinned=True) as cluster:
        settings = {
            "TOYGAN_RUNNER": "ray",
            "TOYGAN_RUNNER_ADDRESS": cluster.address,
            "TOYGAN_SHARD_CPUS": "1",
        }
        command, variables = [sys.executable, str(driver), str(folder)], {**cluster.environment, **settings}
        result = subprocess.run(command, env=variables, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(result.stderr[-4000:])
    return float(result.stdout.rpartition("elapsed_s")[2])


def main() -> None:
    found = measure()
    print(f"one Ray node on one core: {found.one_node_s:.1f} s; two, a core each: {found.two_nodes_s:.1f} s")
    print(f"two nodes against one (at least 1.7): {found.ratio:.2f} times")


if __name__ == "__main__":
    main()
