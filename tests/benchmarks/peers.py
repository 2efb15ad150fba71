"""toygan beside what a shop's programmer would write instead, in one run on one machine.

Three programs generate the pictures of the same catalog with the same bundled model, and write the same kind
of files: a plain loop, Ray Data's `map_batches` with the same functions, and `toygan generate`. The first two
keep no plan: they cannot resume, skip what is there, or generate a picture again. Each program is a process
of its own, which is timed from its command to its end. Before that, each ran once with one product: the first
run of `toygan` on a machine makes Prefect's database.

`python -m tests.benchmarks.peers plain|ray CATALOG OUTPUT` is one of the first two.
"""

import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from tests.servers import rclone_server

SIZES: Final = (500, 20)  # products: a first night, and an ordinary one
BATCH: Final = 4  # the fastest size on a CPU
PROGRAMS: Final = ("plain", "ray", "toygan")
STORES: Final = ("folder", "S3")


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One program's run."""

    wall_s: float
    cpu_s: float  # user and system, its children's, too
    first_picture_s: float  # from the command until the first picture lies in the store
    pictures: int


@dataclass(kw_only=True)
class Product:
    """A product of the plain programs that has no picture yet."""

    row: Mapping[str, Any]
    given: Any  # ProductConditions
    against: Sequence[str]
    scores: list[float | None] = field(default_factory=list)
    pixels: list[Any] = field(default_factory=list)


class PictureMaker:
    """Generates, scores, checks and stores the pictures of some rows, with the functions of toygan."""

    def __init__(self, output: str, threads: int) -> None:
        import torch

        from toygan.artifact.load import load_model
        from toygan.registry.models import resolve
        from toygan.storage.open_store import open_store

        torch.set_num_threads(threads)
        self.model = load_model(resolve(None, None), torch.device("cpu"))
        self.calibration = self.model.require_calibration()
        self.store = open_store(output)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Takes columns with one value a product, as Ray Data gives them; returns columns of metadata."""
        rows = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
        waiting = self._products(rows)
        found: dict[str, list[Any]] = {name: [] for name in ("sku", "attempt", "decision", "key", "p_real")}
        while waiting:
            waiting = self._attempt(waiting, found)
        return found

    def _products(self, rows: Sequence[Mapping[str, Any]]) -> list[Product]:
        from toygan.approval.policy import MAX_ATTEMPTS, reasons_before_generation

        given = [
            self.model.conditions_of(
                category=row["category"],
                title=row["title"],
                description=None,
                language="en",
                colour=None,
                colour_hex=row["colour_hex"],
                finish=row["finish"],
            )
            for row in rows
        ]
        seeds = [[self._seed(row, attempt) for attempt in range(MAX_ATTEMPTS)] for row in rows]
        nearest = self.model.best_similarities(given, seeds)
        return [
            Product(row=row, given=product, against=reasons_before_generation(best_similarity=similarity))
            for row, product, similarity in zip(rows, given, nearest, strict=True)
        ]

    def _seed(self, row: Mapping[str, Any], attempt: int) -> int:
        from toygan.seeds import image_seed

        return image_seed(row["sku"], 0, attempt, self.model.name, self.model.version)

    def _attempt(self, products: list[Product], found: dict[str, list[Any]]) -> list[Product]:
        """Generates one picture of each product; returns the products that want another."""
        from toygan.generation.postprocessing import Origin, postprocess

        seeds = [self._seed(product.row, len(product.scores)) for product in products]
        generated = self.model.generate(seeds, [product.given for product in products], len(products))
        scales = [self.calibration.of(product.row["category"]) for product in products]
        logits = generated.logits.tolist()
        scores = [scale.p_real(logit) for scale, logit in zip(scales, logits, strict=True)]
        good = [
            not product.against and score >= scale.threshold
            for product, score, scale in zip(products, scores, scales, strict=True)
        ]
        checked = postprocess(
            generated.pixels,
            generated.finite.tolist(),
            good,
            [product.row["colour_hex"] for product in products],
            [
                Origin(layout_similarity=similarity, snapshot=None, shape=shape)
                for similarity, shape in zip(generated.layout_similarities, generated.shapes, strict=True)
            ],
            [scale.limits for scale in scales],
            "webp",
        )
        again = []
        for i, product in enumerate(products):
            product.scores.append(scores[i] if generated.finite[i] else None)
            product.pixels.append(generated.pixels[i])
            if (file := checked.candidates[i].file) is not None:
                self._keep(found, product, "approved", file)
            elif self._may_try_again(product, checked.candidates[i].failed_checks, scales[i].threshold):
                again.append(product)
            else:
                self._keep_best(found, product)
        return again

    def _may_try_again(self, product: Product, failed: Sequence[Any], threshold: float) -> bool:
        from toygan.approval.policy import MAX_ATTEMPTS, another_attempt_helps

        if product.against or len(product.scores) >= MAX_ATTEMPTS:
            return False
        return another_attempt_helps(failed, product.scores, threshold=threshold, has_own_shape=False)

    def _keep_best(self, found: dict[str, list[Any]], product: Product) -> None:
        from toygan.approval.policy import pick_for_review
        from toygan.images import encode

        best = pick_for_review(product.scores)
        if best is not None:
            self._keep(found, product, "review", encode(product.pixels[best], "webp"))

    def _keep(self, found: dict[str, list[Any]], product: Product, decision: str, file: bytes) -> None:
        row = product.row
        folder = "images" if decision == "approved" else "review"
        key = f"{folder}/{row['category']}/{row['sku']}.webp"
        self.store.put(key, file, content_type="image/webp")
        values = (row["sku"], len(product.scores) - 1, decision, key, product.scores[-1])
        for name, value in zip(found, values, strict=True):
            found[name].append(value)


def plain(catalog: str, output: str) -> pa.Table:
    """A loop over batches: generate, score, check, save, one after the other, with all cores in one batch."""
    maker = PictureMaker(output, len(os.sched_getaffinity(0)))
    rows = pq.read_table(catalog)
    parts = []
    for first in range(0, len(rows), BATCH):
        parts.append(pa.table(maker(rows.slice(first, BATCH).to_pydict())))
    return pa.concat_tables(parts, promote_options="permissive")


def ray_data(catalog: str, output: str) -> pa.Table:
    """The same functions as a class of Ray Data, one actor a core."""
    import ray

    cores = len(os.sched_getaffinity(0))
    ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False, object_store_memory=2**28)
    ray.data.DataContext.get_current().enable_progress_bars = False
    table = pq.read_table(catalog)
    # Blocks that lie in memory need no task: both cores belong to the actors.
    blocks = [table.slice(first, BATCH) for first in range(0, len(table), BATCH)]
    results = ray.data.from_arrow(blocks).map_batches(
        PictureMaker,
        fn_constructor_args=(output, 1),
        batch_size=BATCH,
        concurrency=cores,
        num_cpus=1,
    )
    return pa.concat_tables(
        [pa.Table.from_pandas(part) for part in results.iter_batches(batch_format="pandas")],
        promote_options="permissive",
    )


def write_catalog(path: Path, products: int) -> None:
    """Writes products of the bundled catalog without a drawing of their own, several times under new skus."""
    columns = ["sku", "category", "title", "colour_hex", "finish"]
    table = pq.read_table(str(files("toygan") / "pretrained" / "demo_catalog.parquet"))
    own = [row for row in table.to_pylist() if not row.get("sketch_uri") and not row.get("layout_uri")]
    by_category: dict[str, list[dict[str, Any]]] = {}
    for row in own:
        by_category.setdefault(row["category"], []).append(row)
    rows = []
    for number in range(products):
        group = list(by_category.values())[number % len(by_category)]
        copy, place = divmod(number // len(by_category), len(group))
        rows.append({name: group[place][name] for name in columns} | {"sku": f"{group[place]['sku']}-{copy}"})
    schema = pa.schema([table.schema.field(name) for name in columns])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def run(program: str, catalog: Path, output: str, shown: Path, environment: Mapping[str, str]) -> Timed:
    """Times one program in a process of its own; `shown` is the folder in which the pictures appear."""
    if program == "toygan":
        toygan = str(Path(sys.executable).with_name("toygan"))
        command = [toygan, "generate", "--catalog", str(catalog), "--output", output]
    else:
        command = [sys.executable, "-m", "tests.benchmarks.peers", program, str(catalog), output]
    before, began, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.time(), time.monotonic()
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    wall_s, after = time.monotonic() - began_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    if finished.returncode:
        raise RuntimeError(f"{program}: {finished.stderr[-4000:]}")
    pictures = [path for part in ("images", "review") for path in shown.glob(f"{part}/**/*.webp")]
    return Timed(
        wall_s=wall_s,
        cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        first_picture_s=min(path.stat().st_mtime for path in pictures) - began,
        pictures=len(pictures),
    )


def measure(
    sizes: Sequence[int] = SIZES, stores: Sequence[str] = STORES
) -> dict[tuple[str, int, str], Timed]:
    """Returns each program's run by store, number of products and program."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="toygan-benchmark-") as name:
        folder = Path(name)
        (folder / "s3").mkdir()
        with rclone_server(folder / "s3") as server:
            server.make_bucket("shop")
            for store, size in [("folder", 1), *itertools.product(stores, sizes)]:
                catalog = folder / f"{size}.parquet"
                write_catalog(catalog, size)
                for program in PROGRAMS:
                    place = f"{program}-{size}"
                    output = f"s3://shop/{place}" if store == "S3" else str(folder / place)
                    shown = folder / "s3" / "shop" / place if store == "S3" else folder / place
                    environment = {
                        **os.environ,
                        **(server.environment() if store == "S3" else {}),
                        "PREFECT_HOME": str(folder / "prefect"),
                    }
                    found[store, size, program] = run(program, catalog, output, shown, environment)
    return found


def main() -> None:
    found = measure()
    for (store, size, program), timed in found.items():
        print(
            f"{store}, {size} products, {program}: {timed.wall_s:.1f} s wall, {timed.cpu_s:.1f} s of CPU, "
            f"first picture after {timed.first_picture_s:.1f} s, {timed.pictures} pictures"
        )
    for store, size in itertools.product(STORES, SIZES):
        best = min(found[store, size, program].wall_s for program in ("plain", "ray"))
        ratio = found[store, size, "toygan"].wall_s / best
        print(f"{store}, {size} products: toygan by the better peer (at most 1): {ratio:.2f}")


if __name__ == "__main__":
    if sys.argv[1:]:
        kind, source, target = sys.argv[1:]
        table = {"plain": plain, "ray": ray_data}[kind](source, target)
        from toygan.storage.open_store import open_store

        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        open_store(target).put("metadata.parquet", sink.getvalue().to_pybytes())
        print(json.dumps({"rows": len(table)}))
    else:
        main()
