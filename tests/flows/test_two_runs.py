"""Two runs at the same time on overlapping catalogs, into one store."""

import subprocess
import sys
from pathlib import Path

import pyarrow.compute as pc
import pytest

from catalog_schemas.images import APPROVED, read_current
from catalog_schemas.runs import Manifest
from tests.flows.catalogs import product, write_catalog
from tests.flows.conftest import COMMAND_LIMIT_S
from tests.models import tiny_model
from tests.servers import fresh_bucket
from toygan.planning.finished import read_manifest, read_part
from toygan.publishing.verify import verify
from toygan.storage.keys import CURRENT_KEY
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectStore

# First and last product of each run's catalog: a third of them is in both.
CATALOGS = {"one": (0, 120), "other": (60, 180)}


@pytest.mark.parametrize("kind", ["folder", "moto"])
def test_two_runs_at_the_same_time_end_in_a_whole_store(
    kind: str,
    tmp_path: Path,
    prefect_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    environment, output = prefect_environment, str(tmp_path / "store")
    if kind == "moto":
        moto = request.getfixturevalue("moto")
        output = f"{fresh_bucket(moto, monkeypatch)}/shop"
        environment = environment | moto.environment()
    model = tiny_model().write(tmp_path / "tiny")
    processes = []
    for run_id, numbers in CATALOGS.items():
        rows = [product(number) for number in range(*numbers)]
        catalog = write_catalog(tmp_path / f"{run_id}.parquet", rows)
        command = [sys.executable, "-m", "flows.cli", "generate", "--run-id", run_id, "--output", output]
        # On some CPUs the last bits of a picture depend on the size of its batch, and the two plans have
        # different batches.
        command += ["--catalog", str(catalog), "--model", str(model), "--batch-size", "1"]
        with (tmp_path / f"{run_id}.log").open("wb") as log:
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    try:
        for run_id, process in zip(CATALOGS, processes, strict=True):
            assert process.wait(COMMAND_LIMIT_S) == 0, (tmp_path / f"{run_id}.log").read_text()
    finally:
        for process in processes:
            process.kill()

    store = open_store(output)
    assert store.has_conditional_writes
    verdict = verify(store)
    assert (verdict.problems, verdict.finished_runs, verdict.open_runs) == ((), 2, ())
    first, last = sorted(CATALOGS, key=lambda run_id: manifest_of(store, run_id).commit)
    wanted = approved(store, first) | approved(store, last)
    live = read_current(store.get(CURRENT_KEY)).to_pylist()
    assert {(row["sku"], row["image_index"]): (row["run_id"], row["image_id"]) for row in live} == wanted
    assert len(wanted) > 90


def manifest_of(store: ObjectStore, run_id: str) -> Manifest:
    manifest = read_manifest(store, run_id)
    assert manifest is not None
    return manifest


def approved(store: ObjectStore, run_id: str) -> dict[tuple[str, int], tuple[str, str]]:
    """The run and the picture by slot."""
    found = {}
    for shard in range(manifest_of(store, run_id).shards):
        part = read_part(store, run_id, shard)
        for row in part.filter(pc.equal(part["decision"], APPROVED)).to_pylist():
            found[row["sku"], row["image_index"]] = (run_id, row["image_id"])
    return found
