"""How long it takes to check and plan a catalog, and how much memory: `python -m tests.benchmarks.planning`.

Each catalog is planned in a fresh process, into a local store. The time is that of the process from its start
to its end, imports included; the memory is its largest resident set (VmHWM). Promised are a million rows in
60 s and 1536 MiB, and ten times the rows in at most eleven times the time.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = (100_000, 1_000_000)
CATEGORIES = 10

_CHILD = """
import sys
from toygan.planning.plan import ModelScope, RunSettings, freeze_plan
from toygan.storage.open_store import open_store

catalog, store, categories = sys.argv[1:]
settings = RunSettings(models={"main": "benchmark@" + "0" * 12})
names = frozenset(f"category-{number}" for number in range(int(categories)))
scopes = {"main": ModelScope(categories=names)}
plan = freeze_plan(open_store(store), "benchmark", catalog, settings, scopes)
assert "torch" not in sys.modules
# The usage that the parent reads begins with the parent's own memory, which the fork shared.
with open("/proc/self/status") as status:
    peak_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
print(plan.counts["planned"], len(plan.shards), peak_kib)
"""


class Figures(TypedDict):
    """What one catalog costs."""

    seconds: float
    cpu_seconds: float  # of all threads: says more where the machine is busy with other things
    peak_mib: float
    shards: int


def write_catalog(path: Path, rows: int, categories: int) -> None:
    """A catalog of good rows, with texts as long as real ones, in row groups of a million at most."""
    number = np.arange(rows)
    text = pa.array(number).cast(pa.string())
    category = pa.array([f"category-{each}" for each in range(categories)]).take(
        pa.array(number % categories)
    )
    names = [
        "Brick 2 x 4",
        "Wheel Rim 14 x 18 with Holes on Both Sides with Tyre",
        "Slope 45 2 x 1",
        "Palm Tree",
    ]
    title = pa.compute.binary_join_element_wise(pa.array(names).take(pa.array(number % 4)), text, " ")
    keys = pa.array(["material", "part"]).take(pa.array(np.tile([0, 1], rows)))
    values = pa.chunked_array([text]).combine_chunks().take(pa.array(number.repeat(2)))
    table = pa.table(
        {
            "sku": pa.compute.binary_join_element_wise("sku", text, "-"),
            "category": category,
            "title": title,
            "description": pa.array(["A part that fits all others."]).take(pa.array(number * 0)),
            "language": pa.array(["en", "zh"]).take(pa.array((number % 10 == 0).astype("int8"))),
            "colour": pa.array(["Red", "Bright Light Blue"]).take(pa.array(number % 2)),
            "colour_hex": pa.array(["#B40000", "#9dc3f7"]).take(pa.array(number % 2)),
            "finish": pa.array(["solid", "chrome"]).take(pa.array(number % 2)),
            "attributes": pa.MapArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * 2, keys, values),
        }
    )
    pq.write_table(table, path)


def measure(rows: Sequence[int] = ROWS, categories: int = CATEGORIES) -> dict[int, Figures]:
    """The figures of a catalog of each size, in `categories` categories."""
    with tempfile.TemporaryDirectory() as folder:
        return {count: _measure_one(Path(folder), count, categories) for count in rows}


def _measure_one(folder: Path, rows: int, categories: int) -> Figures:
    catalog = folder / f"{rows}.parquet"
    write_catalog(catalog, rows, categories)
    command = [sys.executable, "-c", _CHILD, str(catalog), str(folder / f"store-{rows}"), str(categories)]
    began = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert child.stdout is not None
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if child.returncode:
        raise RuntimeError(f"planning {rows} rows failed with exit code {child.returncode}")
    planned, shards, peak_kib = map(int, said.split())
    if planned != rows:
        raise RuntimeError(f"{planned} of {rows} rows were planned")
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Figures(seconds=seconds, cpu_seconds=cpu_seconds, peak_mib=peak_kib / 1024, shards=shards)


def main() -> None:
    """Print the figures as a table, or as JSON with --json."""
    figures = measure()
    if "--json" in sys.argv[1:]:
        print(json.dumps(figures))
        return
    print(f"{'rows':>10} {'seconds':>9} {'of CPU':>9} {'peak MiB':>9} {'shards':>7}")
    for rows, each in figures.items():
        print(f"{rows:>10,} {each['seconds']:>9.1f} {each['cpu_seconds']:>9.1f}", end=" ")
        print(f"{each['peak_mib']:>9.0f} {each['shards']:>7,}")
    few, many = (figures[rows]["seconds"] for rows in (min(figures), max(figures)))
    print(f"{max(figures) // min(figures)} times the rows take {many / few:.1f} times the time")


if __name__ == "__main__":
    main()
