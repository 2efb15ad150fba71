"""Work by what it is for: what a shop's ordinary runs cost, as ratios within one run of this benchmark.

Costs are CPU seconds, user and system, so that other work on the machine hardly counts. The unit is a picture
scored by the plain network that scores: EfficientNet-Lite1 at 224 pixels, torch eager, float32, one thread,
batches of 4.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from catalog_schemas.images import APPROVED
from catalog_schemas.products import PRODUCTS
from flows.steps import compute_shards
from tests.benchmarks.nightly_training import TIMED_PRESETS, auto_by_better, budget
from tests.models import products
from toygan.artifact.compiled_extractor import CompiledExtractor
from toygan.artifact.feature_extractor import FeatureExtractor
from toygan.artifact.load import load_model
from toygan.artifact.model import Model
from toygan.artifact.probe import Probe
from toygan.artifact.probe_weights import SIDE
from toygan.generation.engine import Engine, default_batch_size
from toygan.generation.request import RunRequest, resolve_run
from toygan.generation.run import run_shard, start_run
from toygan.generation.worker_spec import ModelPlace, WorkerSpec, engine_for
from toygan.memory import limit_arenas
from toygan.publishing.finish import finish_run
from toygan.registry.models import resolve

BATCH = 4
EARLIER_BATCH = 32  # every batch was padded to this
PRODUCTS_A_NIGHT = 20
REPEATS = 5


@dataclass(frozen=True, kw_only=True)
class Demo:
    """One run of the command."""

    user_s: float  # its children's, too
    system_s: float
    wall_s: float
    first_picture_s: float  # from the command until an approved picture lies in the folder
    generating_s: float  # wall, from the first picture that was generated to the last
    products: int
    candidates: int
    approved: int
    later_attempts: int  # second to fourth ones
    approved_later: int  # approved ones of these
    generated: int  # pictures, padding included


def cpu_s(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """CPU seconds of this process: the least of some repeats, after one that warms up."""
    work()
    found = []
    for _ in range(repeats):
        before = time.process_time()
        work()
        found.append(time.process_time() - before)
    return min(found)


@dataclass(frozen=True, kw_only=True)
class PerPicture:
    """CPU seconds to generate and score a picture."""

    whole: float
    without_enhancer: float  # the picture of the first stage, which has 128 pixels


@torch.inference_mode()
def plain_scorer_s() -> float:
    """CPU seconds a picture."""
    extractor = FeatureExtractor(SIDE).to(memory_format=torch.channels_last)
    images = torch.rand(BATCH, 3, 128, 128) * 2 - 1
    return cpu_s(lambda: extractor(images)) / BATCH


def eager_s() -> PerPicture:
    """By torch eager, with the memory allocator's defaults, in the batches of earlier versions."""
    model = load_model(resolve(None, None), torch.device("cpu"))
    calibration = model.require_calibration()
    assert calibration.probe is not None
    extractor = FeatureExtractor(calibration.probe.side).to(memory_format=torch.channels_last)
    return generate_s(replace(model, probe=Probe(calibration.probe, extractor)), EARLIER_BATCH)


def generate_s(model: Model, pictures: int) -> PerPicture:
    """In batches of `pictures`."""
    wanted = products(model.categories[0], ["#B40000"] * pictures)
    whole_s, without_s = (
        cpu_s(partial(each.generate, range(pictures), wanted, pictures), 3) / pictures
        for each in (model, _without_enhancer(model))
    )
    return PerPicture(whole=whole_s, without_enhancer=without_s)


def _without_enhancer(model: Model) -> Model:
    """A compiled network takes pictures of one size, so that of the probe is compiled for small ones."""
    fitted = model.require_calibration().probe
    assert model.probe is not None
    assert fitted is not None
    extractor = model.probe.extractor
    if isinstance(extractor, CompiledExtractor):
        extractor = CompiledExtractor(fitted.side, min(model.generated_resolution, fitted.side))
    return replace(model, enhancer=None, probe=Probe(fitted, extractor))


def measure_demo() -> Demo:
    """`toygan demo` in a process of its own. Of two runs, the one with less CPU time counts."""
    return min((_run_demo() for _ in range(2)), key=lambda demo: demo.user_s + demo.system_s)


def _run_demo() -> Demo:
    toygan = str(Path(sys.executable).with_name("toygan"))
    with tempfile.TemporaryDirectory(prefix="toygan-benchmark-") as folder:
        environment = {**os.environ, "PREFECT_HOME": f"{folder}/prefect"}
        before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        command = subprocess.Popen([toygan, "demo", "--output", f"{folder}/demo"], env=environment)
        first_s = None
        while command.poll() is None:
            if first_s is None and any(Path(folder).glob("demo/images/*/*/*")):
                first_s = time.monotonic() - began_s
            time.sleep(0.1)
        wall_s, after = time.monotonic() - began_s, resource.getrusage(resource.RUSAGE_CHILDREN)
        if command.returncode or first_s is None:
            raise RuntimeError("toygan demo made no picture")
        parts = [pq.read_table(path) for path in Path(folder).glob("demo/metadata/*/part-*.parquet")]
    rows = pa.concat_tables(parts).select(["sku", "attempt", "decision", "generated_at"]).to_pylist()
    times = [row["generated_at"].timestamp() for row in rows]
    approved = [row["attempt"] for row in rows if row["decision"] == APPROVED]
    return Demo(
        user_s=after.ru_utime - before.ru_utime,
        system_s=after.ru_stime - before.ru_stime,
        wall_s=wall_s,
        first_picture_s=first_s,
        generating_s=max(times) - min(times),
        products=len({row["sku"] for row in rows}),
        candidates=len(rows),
        approved=len(approved),
        later_attempts=sum(row["attempt"] > 0 for row in rows),
        approved_later=sum(attempt > 0 for attempt in approved),
        generated=_generated(parts),
    )


def _generated(parts: list[pa.Table]) -> int:
    """Pictures with padding: the rows of a batch share their shape, so what it does not fill is padding."""
    total = 0
    for part in parts:
        shapes = part["batch_size"].to_pylist()
        for shape in set(shapes):
            total += -(-shapes.count(shape) // shape) * shape
    return total


def measure_night(categories: Sequence[str]) -> tuple[float, int]:
    """Generates, checks and stores 20 products spread over `categories`.

    Returns the CPU seconds of this process, without start-up, and the number of candidates.
    """
    rows = [
        {
            "sku": f"product-{number}",
            "category": categories[number % len(categories)],
            "title": f"{categories[number % len(categories)].capitalize()} {number}",
            "colour_hex": "#B40000",
        }
        for number in range(PRODUCTS_A_NIGHT)
    ]
    with tempfile.TemporaryDirectory(prefix="toygan-benchmark-") as folder:
        catalog = Path(folder) / "catalog.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=PRODUCTS), catalog)
        run = start_run(
            resolve_run(RunRequest(catalog=str(catalog), output=f"{folder}/store", run_id="night"))
        )
        before = time.process_time()
        decisions = [run_shard(run.worker_spec, "night", shard, "webp") for shard in run.pending]
        spent_s = time.process_time() - before
        finish_run(run, "benchmark")
    return spent_s, sum(
        number for each in decisions for counts in each.values() for number in counts.values()
    )


def pipeline_by_slowest_stage() -> float:
    """The speed of the pipeline by that of generation, its slowest stage, alone, on the products of the demo.

    The shards of a run are computed as the command computes them. Then their batches are generated again with
    nothing else to do. The result is the median of five such pairs, because the speed of a core changes.
    """
    pretrained = files("toygan") / "pretrained"
    ratios = []
    with tempfile.TemporaryDirectory(prefix="toygan-benchmark-") as folder:
        shutil.copytree(str(pretrained / "conditions"), f"{folder}/conditions")
        catalog = Path(folder) / "catalog.parquet"
        shutil.copy(str(pretrained / "demo_catalog.parquet"), catalog)
        store = f"{folder}/store"  # always the same, because a process keeps the models of a store
        for number in range(6):  # the first run loads the models and is not timed
            shutil.rmtree(store, ignore_errors=True)
            run = start_run(resolve_run(RunRequest(catalog=str(catalog), output=store, run_id="night")))
            with _submitted() as batches:
                began_s = time.monotonic()
                compute_shards(run)
                ended_s = time.monotonic()
            again = [engine.submit(*given, lambda generated: None) for engine, *given in batches]
            for future in again:
                future.result()
            if number:
                ratios.append((time.monotonic() - ended_s) / (ended_s - began_s))
    return median(ratios)


@contextmanager
def _submitted() -> Iterator[list[Any]]:
    """The engine, the seeds and the products of each batch that is submitted in the block."""
    batches: list[Any] = []
    original = Engine.submit

    def submit(engine: Engine, seeds: Any, given: Any, then: Any) -> Any:
        batches.append((engine, seeds, given))
        return original(engine, seeds, given, then)

    with patch.object(Engine, "submit", submit):
        yield batches


def model_in_use(folder: str) -> Model:
    """The bundled model that generates from titles, as the command loads it on two cores."""
    source = resolve(None, None)
    place = ModelPlace(reference=f"{source.name}@{source.version}", version=source.version)
    return engine_for(WorkerSpec(store=folder, models={"main": place}, device="cpu", cores=2)).model


def main() -> None:
    limit_arenas(1)  # as the command does
    torch.set_num_threads(1)
    # This comes first, before this process holds memory. A virtual machine returns free memory to its host,
    # and the program that needs it again spends up to 3 s of system time on getting it back.
    demo = measure_demo()
    unit_s = plain_scorer_s()
    # In a process of its own: its large batches and the worker pool change how a process allocates memory.
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (1,)) as alone:
        earlier_s = alone.submit(eager_s).result()
    efficiency = pipeline_by_slowest_stage()
    with tempfile.TemporaryDirectory() as folder:
        model = model_in_use(folder)
    in_use_s = generate_s(model, default_batch_size(model))
    (one_s, one), (ten_s, ten) = (
        min(measure_night(model.categories[:number]) for _ in range(2)) for number in (1, 10)
    )
    print(f"plain scorer: {1e3 * unit_s:.0f} ms of CPU a picture")
    for size, earlier, now in (
        (128, earlier_s.without_enhancer, in_use_s.without_enhancer),
        (512, earlier_s.whole, in_use_s.whole),
    ):
        print(f"generate {size} pixels and score: {1e3 * earlier:.0f} ms eager; {1e3 * now:.0f} ms in use")
        print(f"  in use by eager (at most 0.6): {now / earlier:.2f}")
    print(f"20 products in one category: {one_s:.1f} s, {one} candidates; over ten: {ten_s:.1f} s, {ten}")
    print(f"  ten by one (at most 1.3): {ten_s / one_s:.2f}; a candidate: {ten_s / ten / (one_s / one):.2f}")
    print(f"pipeline by its slowest stage alone (at least 0.85): {efficiency:.2f}")
    for preset in TIMED_PRESETS:
        print(f"step of {preset}: auto by the better precision (at most 1.05): {auto_by_better(preset):.2f}")
    night = budget(model, products(model.categories[0], ["#B40000"] * BATCH))
    print(f"retraining (at most 6 h, 20 min of them measuring): {night.text()}")
    print_demo(demo, unit_s)


def print_demo(demo: Demo, unit_s: float) -> None:
    """`unit_s`: CPU seconds of a picture by the plain scorer."""
    a_product = (demo.user_s + demo.system_s) / demo.products / unit_s
    print(f"demo: {demo.user_s:.1f} s user, {demo.system_s:.1f} s system, {demo.wall_s:.0f} s wall")
    print(f"  CPU a product by the plain scorer's a picture (at most 10): {a_product:.1f}")
    print(f"  system by user time (at most 0.05): {demo.system_s / demo.user_s:.2f}")
    print(f"  pictures by candidates (at most 1.15): {demo.generated / demo.candidates:.2f}")
    print(f"  candidates: {demo.candidates}, approved: {demo.approved}")
    print(f"  later attempts: {demo.later_attempts}, approved of them: {demo.approved_later}")
    print(f"  generating: {demo.generating_s:.0f} s wall (at most 60)")
    print(f"  first approved picture: {demo.first_picture_s:.0f} s wall (at most 20)")


if __name__ == "__main__":
    main()
