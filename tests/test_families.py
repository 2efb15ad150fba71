"""Every family from photos to pictures in a store, through the commands a user gives."""

import io
import json
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from PIL import Image, ImageDraw

from catalog_schemas.images import IMAGES
from catalog_schemas.photos import PHOTO_SHARD
from flows.cli import cli
from tests.models import one_thread
from tests.shards import COLOURS, SHARD_SCHEMA, photo_row, write_shard
from toygan.data.split import is_calibration_sku
from toygan.errors import RunFailed
from toygan.models import FAMILIES
from toygan.storage.keys import part_key
from toygan.storage.store import open_store

SMALL = {
    "mlp": {"generator_units": [16, 32, 16], "discriminator_units": [16, 8]},
    "dcgan": {"generator_channels": 4, "discriminator_channels": 4, "max_channels": 16},
    "stylegan": {"latent_size": 8, "style_size": 8, "channel_base": 64, "max_channels": 8},
    "pix2pix": {"generator_channels": 4, "discriminator_channels": 4, "max_channels": 8},
}
PRODUCTS = 4


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty photos of two categories in four colours, with drawings; some of their products calibrate."""
    rows = [
        photo_row(f"sku-{number}", ("brick", "plant")[number % 2], COLOURS[number // 2 % 4], sketch=SKETCH)
        for number in range(40)
    ]
    assert any(is_calibration_sku(row["sku"]) for row in rows)
    schema = SHARD_SCHEMA.append(PHOTO_SHARD.field("sketch"))
    return write_shard(tmp_path_factory.mktemp("photos"), rows, schema=schema)


def drawing() -> bytes:
    """A PNG of the outline of a square."""
    image = Image.new("1", (40, 40), 1)
    ImageDraw.Draw(image).rectangle((10, 10, 30, 30), outline=0)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


SKETCH = drawing()


def catalog(folder: Path) -> Path:
    """Four products of the two categories."""
    (folder / "sketch.png").write_bytes(SKETCH)
    rows = [
        {"sku": f"new-{number}", "category": ("brick", "plant")[number % 2], "title": f"Toy {number}"}
        | {"colour_hex": COLOURS[number], "sketch_uri": "sketch.png"}
        for number in range(PRODUCTS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "catalog.parquet")
    return folder / "catalog.parquet"


def toygan(*arguments: object) -> Result:
    with one_thread():
        return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_train_calibrate_generate(family: str, photos: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"network": SMALL[family], "batch_size": 8}))
    given = ("--photos", photos, "--family", family, "--resolution", 32, "--config", config)
    trained = toygan("train", *given, "--output", tmp_path / "training", "--max-images", 40)
    assert "the model is in" in trained.output
    model = tmp_path / "training" / "model"
    calibrated = toygan("calibrate", "--model", model, "--photos", photos)
    assert "is calibrated" in calibrated.output
    where = ("--catalog", catalog(tmp_path), "--output", tmp_path / "store")
    with suppress(RunFailed):  # after forty images of training no picture needs to pass the checks
        toygan("generate", *where, "--model", model, "--batch-size", 4, "--run-id", "first")
    store = open_store(str(tmp_path / "store"))
    parts = [pa.BufferReader(store.get(part_key("first", shard))) for shard in range(2)]  # one a category
    rows = [row for part in parts for row in pq.read_table(part, schema=IMAGES).to_pylist()]
    assert {row["sku"] for row in rows} == {f"new-{number}" for number in range(PRODUCTS)}
    assert {row["model_family"] for row in rows} == {family}
    shown = [row for row in rows if row["image_uri"]]
    assert len(shown) == PRODUCTS
    assert all(len(store.get(row["image_uri"])) == row["bytes"] for row in shown)
