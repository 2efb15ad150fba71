"""How much of its slowest stage's speed the pipeline keeps, and what orchestration costs.

One process, one machine, one after the other: a run of the flow into a store, then each stage alone on the
cores that it gets in the pipeline (drawing: the engine's threads; checks with encoding: its worker processes;
storing: its threads). Rates are candidates a second; a stage that handles only some of the candidates
(storing: the approved ones and those for review) counts for all of them.
"""

import json
import os
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq

from catalog_schemas.products import PRODUCTS
from flows.reach import DEFAULTS
from tests.models import products
from tests.servers import rclone_server
from toygan.artifact.files import CONFIG
from toygan.generation.engine import Engine
from toygan.generation.request import RunRequest, new_run_id, resolve_run
from toygan.generation.run import start_run
from toygan.generation.worker_spec import engine_for
from toygan.publishing import finish
from toygan.publishing.contact_sheet import contact_sheet
from toygan.registry.models import resolve
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectStore

PRODUCT_COUNT = 2000
ALONE_PICTURES = 2048
COLOURS = ("#B40000", "#1E5AA8", "#FAC80A", "#00852B", "#F4F4F4", "#1B2A34", "#969696", "#58AB41")


@dataclass(frozen=True, kw_only=True)
class PipelineFigures:
    """Rates in candidates a second, shares from 0 to 1."""

    store: str
    candidates: int
    approved: int
    pipeline_per_s: float
    draw_per_s: float
    finish_per_s: float
    store_per_s: float
    orchestration_share: float
    report_s: float

    @property
    def slowest(self) -> str:
        return min(("generate", "postprocess", "store"), key=lambda stage: getattr(self, f"{stage}_per_s"))

    @property
    def efficiency(self) -> float:
        return self.pipeline_per_s / float(getattr(self, f"{self.slowest}_per_s"))


def measure(model: str | None = None, products: int = PRODUCT_COUNT) -> list[PipelineFigures]:
    """The figures for a local store and for a bucket of a real server process on this machine."""
    with tempfile.TemporaryDirectory(prefix="toygan-benchmark-") as folder:
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        os.environ.setdefault("PREFECT_HOME", f"{folder}/prefect")
        root = Path(folder)
        catalog = root / "catalog.parquet"
        write_catalog(catalog, products, json.loads(resolve(model, None).files[CONFIG])["categories"])
        # Server, imports, model and workers start here and are not part of the figures.
        _run(catalog, f"{folder}/warm-up", model, limit=50)
        figures = [_measure(catalog, f"{folder}/local", model, "local")]
        (root / "s3").mkdir()
        with rclone_server(root / "s3") as server, _environment(server.environment()):
            server.make_bucket("benchmark")
            figures.append(_measure(catalog, "s3://benchmark/store", model, "S3"))
        return figures


def write_catalog(path: Path, products: int, categories: Sequence[str]) -> None:
    """A catalog of products in eight colours."""
    rows = [
        {
            "sku": f"{categories[number % len(categories)]}-{number:07d}",
            "category": categories[number % len(categories)],
            "title": f"Product {number}",
            "colour_hex": COLOURS[number // len(categories) % len(COLOURS)],
        }
        for number in range(products)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=PRODUCTS), path)


def _run(catalog: Path, output: str, model: str | None, limit: int | None = None) -> tuple[RunRequest, Any]:
    from flows.generate_catalog import generate_catalog
    from flows.parameters import GenerateParameters

    request = RunRequest(
        catalog=str(catalog),
        output=output,
        run_id=new_run_id(),
        models={} if model is None else {"main": model},
        limit=limit,
    )
    summary = generate_catalog(GenerateParameters(**asdict(request)))
    return request, summary


def _measure(catalog: Path, output: str, model: str | None, name: str) -> PipelineFigures:
    with _timed_report() as report_s:
        began_s = time.monotonic()
        request, summary = _run(catalog, output, model)
        elapsed_s = time.monotonic() - began_s
    engine = engine_for(start_run(resolve_run(request)).worker_spec)
    timeline = engine.worker_pool.timeline.since(began_s)
    counts = summary.manifest.counts
    candidates = sum(counts[decision] for decision in ("approved", "review", "rejected"))
    steady_s = max(span.ended_s for span in timeline.spans) - min(span.began_s for span in timeline.spans)
    stored_share = (counts["approved"] + counts["review"]) / candidates
    store = open_store(output)
    return PipelineFigures(
        store=name,
        candidates=candidates,
        approved=counts["approved"],
        pipeline_per_s=candidates / steady_s,
        draw_per_s=_draw_alone(engine),
        finish_per_s=_finish_alone(engine, summary.manifest.settings["format"]),
        store_per_s=_store_alone(engine, store) / stored_share,
        orchestration_share=1 - (timeline.busy_s() + report_s[0]) / elapsed_s,
        report_s=report_s[0],
    )


def _draw_alone(engine: Engine) -> float:
    category = engine.model.categories[0]
    began_s = time.monotonic()
    for first in range(0, ALONE_PICTURES, engine.batch_size):
        seeds = range(first, first + engine.batch_size)
        engine.generate(seeds, products(category, [COLOURS[seed % len(COLOURS)] for seed in seeds]))
    return ALONE_PICTURES / (time.monotonic() - began_s)


def _finish_alone(engine: Engine, image_format: Any) -> float:
    """With the share of encoded pictures of a run: those that can be approved are encoded, about half."""
    calibration = engine.model.calibration
    assert calibration is not None
    batches = []
    for category in engine.model.categories:
        seeds = range(engine.batch_size)
        colours = [COLOURS[seed % len(COLOURS)] for seed in seeds]
        generated = engine.generate(seeds, products(category, colours))
        scoring = calibration.of(category)
        good = generated.finite & (scoring.p_reals(generated.logits) >= scoring.threshold)
        limits = [scoring.limits] * len(colours)
        batches.append((generated, good.tolist(), colours, limits, image_format))
    waiting: deque[Future[Any]] = deque()
    began_s = time.monotonic()
    for number in range(ALONE_PICTURES // engine.batch_size):
        waiting.append(engine.worker_pool.postprocess(*batches[number % len(batches)]))
        if len(waiting) > 8:
            waiting.popleft().result()
    for future in waiting:
        future.result()
    return ALONE_PICTURES / (time.monotonic() - began_s)


def _store_alone(engine: Engine, store: ObjectStore) -> float:
    keys = [found.key for found in store.list("images/")]
    files = [store.get(key) for key in keys[:256]]
    began_s = time.monotonic()
    puts = [
        engine.worker_pool.store(
            store, key.replace("images/", "images/again-", 1), files[number % len(files)], "image/webp"
        )
        for number, key in enumerate(keys)
    ]
    for put in puts:
        put.result()
    return len(puts) / (time.monotonic() - began_s)


@contextmanager
def _timed_report() -> Iterator[list[float]]:
    """Seconds spent on the contact sheet while the block runs, in a list of one."""
    spent = [0.0]

    def timed(*args: Any, **options: Any) -> str:
        began_s = time.monotonic()
        try:
            return contact_sheet(*args, **options)
        finally:
            spent[0] += time.monotonic() - began_s

    with patch.object(finish, "contact_sheet", timed):
        yield spent


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def print_figures(figures: list[PipelineFigures]) -> None:
    """One column a store."""
    rows = {
        "candidates generated": [f"{each.candidates:,}" for each in figures],
        "pictures approved": [f"{each.approved:,}" for each in figures],
        "pipeline, steady, images/s": [f"{each.pipeline_per_s:.0f}" for each in figures],
        "generate and score alone, images/s": [f"{each.draw_per_s:.0f}" for each in figures],
        "check and encode alone, images/s": [f"{each.finish_per_s:.0f}" for each in figures],
        "store alone, images/s": [f"{each.store_per_s:.0f}" for each in figures],
        "cost an image, ms (draw, finish, store)": [
            f"{1e3 / each.draw_per_s:.2f}, {1e3 / each.finish_per_s:.2f}, {1e3 / each.store_per_s:.2f}"
            for each in figures
        ],
        "slowest stage": [each.slowest for each in figures],
        "efficiency (at least 0.85)": [f"{each.efficiency:.2f}" for each in figures],
        "orchestration (under 5 %)": [f"{each.orchestration_share:.1%}" for each in figures],
        "report, s (apart)": [f"{each.report_s:.2f}" for each in figures],
    }
    print(f"{'':40}" + "".join(f"{each.store:>20}" for each in figures))
    for name, cells in rows.items():
        print(f"{name:40}" + "".join(f"{cell:>20}" for cell in cells))


def main() -> None:
    print_figures(measure())


if __name__ == "__main__":
    main()
