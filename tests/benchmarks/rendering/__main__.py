"""Writes photo shards with rendered snapshots: `python -m tests.benchmarks.rendering --help`."""

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from catalog_schemas.photos import PHOTO_SHARD
from tests.benchmarks.rendering.camera import Solid, find_camera
from tests.benchmarks.rendering.figures import figure, find_arms
from tests.benchmarks.rendering.ldraw import Library, Mesh
from tests.benchmarks.rendering.light import Surface, transfer
from tests.benchmarks.rendering.scenes import Scenes

METAL: Final = {"metal": 0.6, "chrome": 0.9, "pearlescent": 0.3}
GLOSS: Final = (0.0, 0.6, 1.0, 1.0, 1.2)  # plastics differ
FIGURE: Final = "minifigure"
# Nobody knows how these are put together, and nothing here shows light that goes through a product.
LEFT_OUT: Final = ("car", "tower")
LEAST_OVERLAP: Final = 0.97  # of the rendered silhouette and the photo's
LEAST_OF_FIGURES: Final = 0.93  # their heads and hands may be turned
MOST_TRIANGLES: Final = 250_000
SHARD_ROWS: Final = 160


@dataclass(frozen=True, kw_only=True)
class Renderer:
    """Makes the snapshots of photos."""

    library: Library
    scenes: Scenes
    rng: np.random.Generator
    count: int  # snapshots of each kind for each photo

    def rows(self, photo: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yields rows of the photo schema: the photo with one snapshot of each kind.

        Yields nothing if the photo's product cannot be rendered like the photo.
        """
        mask = np.asarray(Image.open(io.BytesIO(photo["layout"]))) > 0
        mesh = self._mesh(photo, mask)
        if mesh is None or len(mesh.corners) > MOST_TRIANGLES:
            return
        solid = Solid(mesh)
        overlap, camera = find_camera(mesh, solid, photo["azimuth_deg"], photo["elevation_deg"], mask)
        if overlap < (LEAST_OF_FIGURES if photo["category"] == FIGURE else LEAST_OVERLAP):
            print(f"{photo['photo_id']} {photo['sku']}: its silhouettes overlap by {overlap:.2f}", flush=True)
            return
        light = transfer(mesh, solid, camera, self.library.rgb, self.rng)
        for number in range(self.count):
            framed, framed_mask = self.scenes.framed(light, self._surface(photo["finish"]))
            free, free_mask = self.scenes.free(light, self._surface(photo["finish"]), mask)
            yield photo | {
                "photo_id": f"{photo['photo_id']}-{number}",
                "snapshot": self._jpeg(framed),
                "mask": png(framed_mask),
                "free_snapshot": self._jpeg(free),
                "free_mask": png(free_mask),
            }

    def _mesh(self, photo: dict[str, Any], mask: NDArray[np.bool_]) -> Mesh | None:
        try:
            if photo["category"] == FIGURE:
                view = photo["azimuth_deg"], photo["elevation_deg"]
                return figure(self.library, photo["sku"], find_arms(self.library, photo["sku"], *view, mask))
            colour = int(photo["sku"].rsplit("-", 1)[1])
            return self.library.mesh(f"{photo['part']}.dat").painted(colour).upright()
        except (KeyError, ValueError) as error:
            print(f"{photo['photo_id']} {photo['sku']}: no such part or colour, {error}", flush=True)
            return None

    def _surface(self, finish: str | None) -> Surface:
        gloss = 0.0 if finish == "rubber" else float(self.rng.choice(GLOSS))
        return Surface(gloss=gloss, metal=METAL.get(finish or "", 0.0))

    def _jpeg(self, picture: Tensor) -> bytes:
        pixels = (255 * picture).round().byte().permute(1, 2, 0).numpy()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=int(self.rng.integers(70, 95)))
        return file.getvalue()


def png(coverage: Tensor) -> bytes:
    file = io.BytesIO()
    Image.fromarray((coverage > 0.5).numpy()).save(file, "PNG")
    return file.getvalue()


def read_photos(folder: Path) -> list[dict[str, Any]]:
    """Returns the photos of the split train whose product can be rendered, products of val left out."""
    rows = [row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    val = {row["sku"] for row in rows if row["split"] == "val"}
    return [
        row
        for row in rows
        if row["split"] == "train"
        and row["sku"] not in val
        and row["category"] not in LEFT_OUT
        and row["finish"] != "transparent"
    ]


@click.command()
@click.option("--ldraw", type=click.Path(path_type=Path), required=True, help="folder with LDConfig.ldr")
@click.option("--photos", type=click.Path(path_type=Path), required=True, help="folder of photo shards")
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--count", default=4, show_default=True, help="snapshots of each kind for each photo")
@click.option("--max-minutes", default=30.0, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(ldraw: Path, photos: Path, output: Path, count: int, max_minutes: float, seed: int) -> None:
    """Renders snapshots of the products of training photos, about eight in two seconds."""
    torch.set_num_threads(1)
    began_s = time.monotonic()
    rng = np.random.default_rng(seed)
    renderer = Renderer(library=Library(ldraw), scenes=Scenes(seed), rng=rng, count=count)
    output.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    shards = 0
    chosen = read_photos(photos)
    for place in rng.permutation(len(chosen)):
        if time.monotonic() - began_s > 60 * max_minutes:
            break
        rows += renderer.rows(chosen[place])
        if len(rows) >= SHARD_ROWS:
            _write(rows, output / f"rendered-{shards:03d}.parquet")
            rows, shards = [], shards + 1
    _write(rows, output / f"rendered-{shards:03d}.parquet")


def _write(rows: list[dict[str, Any]], file: Path) -> None:
    if rows:
        pq.write_table(pa.Table.from_pylist(rows, schema=PHOTO_SHARD), file)
        print(f"{len(rows)} rows in {file.name}", flush=True)


if __name__ == "__main__":
    main()
