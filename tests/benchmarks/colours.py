"""Colours by name: what a catalog without `colour_hex` costs. `python -m tests.benchmarks colours`.

Needs the environment variable TOYGAN_TOYBRICKS: a folder with `catalog.parquet` and the condition files of
its rows. 300 rows of it, at equal distances, are generated three times by the bundled models: as they are;
with the title alone; with the colour's name in `colour`, and a title without it. The colour error of each
approved picture is its CIEDE2000 from the `colour_hex` of the catalog. Wanted: no error above 20, and 0.9 of
the pictures that are approved with `colour_hex`.
"""

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog_schemas.images import APPROVED
from toygan.approval.measures import measure
from toygan.generation.request import RunRequest, resolve_run
from toygan.generation.run import run_shard, start_run
from toygan.images import decode
from toygan.planning.finished import read_part
from toygan.storage.open_store import open_store

ROWS: Final = 300
LARGEST_ERROR: Final = 20.0
SHARE: Final = 0.9


def variants(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The same rows three times, by what names the colour."""
    return {
        "colour_hex": rows,
        "title": [row | {"colour": None, "colour_hex": None} for row in rows],
        "colour": [row | {"title": _without_colour(row), "colour_hex": None} for row in rows],
    }


def _without_colour(row: dict[str, Any]) -> str:
    """The title without the name of the colour, where it stands there."""
    bare = re.sub(rf"\W*\b{re.escape(row['colour'])}\b", "", row["title"], flags=re.IGNORECASE).strip()
    return bare or row["category"]


def generate(folder: Path, catalog: Path) -> list[dict[str, Any]]:
    """Generates the pictures of a catalog; returns the rows of its candidates with their pictures' bytes."""
    request = RunRequest(catalog=str(catalog), output=str(folder / catalog.stem), run_id="benchmark")
    run = start_run(resolve_run(request))
    store = open_store(request.output)
    found: list[dict[str, Any]] = []
    for shard in run.pending:
        run_shard(run.worker_spec, request.run_id, shard, request.image_format)
        found += read_part(store, request.run_id, shard).to_pylist()
    return [row | {"picture": store.get(row["image_uri"])} for row in found if row["image_uri"]]


def errors(rows: list[dict[str, Any]], hexes: dict[str, str]) -> list[float]:
    """The colour errors of the approved pictures."""
    found = []
    for row in rows:
        if row["decision"] == APPROVED:
            (measures,) = measure(decode(row["picture"])[np.newaxis], [hexes[row["sku"]]])
            assert measures.colour_delta_e is not None
            found.append(measures.colour_delta_e)
    return found


def main() -> None:
    """Prints the table; ends with 1 if a wanted figure is missed."""
    if "TOYGAN_TOYBRICKS" not in os.environ:
        print("skipped: set TOYGAN_TOYBRICKS to the folder of the catalog")
        return
    source = Path(os.environ["TOYGAN_TOYBRICKS"])
    table = pq.read_table(source / "catalog.parquet")
    rows = table.take(pa.array(range(0, table.num_rows, table.num_rows // ROWS))).slice(0, ROWS).to_pylist()
    hexes = {row["sku"]: row["colour_hex"] for row in rows}
    missed = False
    print("| the colour is named in | approved | share | median error | largest | above 20 |")
    print("|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(source / "conditions", folder / "conditions")
        most = 0
        for variant, changed in variants(rows).items():
            catalog = folder / f"{variant}.parquet"
            pq.write_table(pa.Table.from_pylist(changed, schema=table.schema), catalog)
            found = errors(generate(folder, catalog), hexes)
            most = most or len(found)
            above = sum(error > LARGEST_ERROR for error in found)
            missed |= above > 0 or len(found) < SHARE * most
            print(f"| `{variant}` | {len(found)} | {len(found) / most:.2f} | {np.median(found):.1f} ", end="")
            print(f"| {max(found):.1f} | {above} |", flush=True)
    if missed:
        sys.exit("a wanted figure is missed")


if __name__ == "__main__":
    main()
