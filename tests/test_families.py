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
from tests.shards import COLOURS, SHARD_SCHEMA, photo, photo_row, write_shard
from toygan.data.split import is_calibration_sku
from toygan.errors import ModelError, RunFailed
from toygan.models import FAMILIES
from toygan.storage.keys import part_key
from toygan.storage.open_store import open_store

SMALL = {
    "mlp": {"generator_units": [16, 32, 16], "discriminator_units": [16, 8]},
    "dcgan": {"generator_channels": 4, "discriminator_channels": 4, "max_channels": 16},
    "stylegan": {"latent_size": 8, "style_size": 8, "channel_base": 64, "max_channels": 8},
    "pix2pix": {"generator_channels": 4, "discriminator_channels": 4, "max_channels": 8},
    "projected": {
        **{"generator_channels": 4, "discriminator_channels": 4, "max_channels": 8},
        "backbone_resolution": 64,
    },
    "studio": {"generator_channels": [4, 4, 4, 4], "discriminator_channels": 4},
    "spade": {
        **{"latent_size": 8, "generator_channels": 4, "modulation_channels": 4},
        **{"discriminator_channels": 4, "max_channels": 8},
    },
}
PRODUCTS = 4
DRAWING = [family for family in FAMILIES if not FAMILIES[family]().config.needs_small_picture]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty photos of two categories in four colours, with drawings and layouts; some of their products
    calibrate."""
    rows = [
        photo_row(f"sku-{number}", ("brick", "plant")[number % 2], COLOURS[number // 2 % 4])
        | {"sketch": SKETCH, "layout": LAYOUT, "snapshot": photo(COLOURS[number // 2 % 4]), "mask": LAYOUT}
        for number in range(40)
    ]
    assert any(is_calibration_sku(row["sku"]) for row in rows)
    schema = SHARD_SCHEMA
    for name in ("sketch", "layout", "snapshot", "mask"):
        schema = schema.append(PHOTO_SHARD.field(name))
    return write_shard(tmp_path_factory.mktemp("photos"), rows, schema=schema)


def square(mode: str, ground: int, **ink: int) -> bytes:
    """A PNG of a square."""
    image = Image.new(mode, (40, 40), ground)
    ImageDraw.Draw(image).rectangle((10, 10, 30, 30), **ink)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


SKETCH = square("1", 1, outline=0)
LAYOUT = square("L", 0, fill=5)


def catalog(folder: Path, family: str) -> Path:
    """Four products of the two categories, with what `family` draws from."""
    needed = FAMILIES[family]().config.image_condition
    if needed is not None:
        files = {"sketch": SKETCH, "layout": LAYOUT, "photo": photo(COLOURS[0])}
        (folder / "needed.png").write_bytes(files[needed])
    rows = [
        {"sku": f"new-{number}", "category": ("brick", "plant")[number % 2], "title": f"Toy {number}"}
        | {"colour_hex": COLOURS[number]}
        | ({f"{needed}_uri": "needed.png"} if needed else {})
        for number in range(PRODUCTS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "catalog.parquet")
    return folder / "catalog.parquet"


def toygan(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)


def options(family: str, folder: Path) -> tuple[object, ...]:
    """How the smallest networks of `family` are asked for."""
    config = folder / "config.json"
    config.write_text(json.dumps({"network": SMALL[family], "data": {"batch_size": 8}}))
    return ("--family", family, "--resolution", 32, "--config", config)


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.usefixtures("few_samples")
@pytest.mark.parametrize("family", DRAWING)
def test_train_calibrate_generate(family: str, photos: Path, tmp_path: Path) -> None:
    given = options(family, tmp_path)
    trained = toygan(
        "train", "--photos", photos, *given, "--output", tmp_path / "training", "--max-images", 40
    )
    assert "the model is in" in trained.output
    model = tmp_path / "training" / "model"
    calibrated = toygan("calibrate", "--model", model, "--photos", photos)
    assert "is calibrated" in calibrated.output
    where = ("--catalog", catalog(tmp_path, family), "--output", tmp_path / "store")
    needed = FAMILIES[family]().config.image_condition
    option = f"--{needed}-model" if needed else "--model"
    with suppress(RunFailed):  # after forty images of training no picture needs to pass the checks
        toygan("generate", *where, option, model, "--batch-size", 4, "--run-id", "first")
    store = open_store(str(tmp_path / "store"))
    part = pa.BufferReader(store.get(part_key("first", 0)))
    rows = pq.read_table(part, schema=IMAGES).to_pylist()
    assert {row["sku"] for row in rows} == {f"new-{number}" for number in range(PRODUCTS)}
    assert {row["model_family"] for row in rows} == {family}
    shown = [row for row in rows if row["image_uri"]]
    assert len(shown) == PRODUCTS
    assert all(len(store.get(row["image_uri"])) == row["bytes"] for row in shown)


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.usefixtures("few_samples")
def test_a_model_with_an_enhancer_draws_larger(photos: Path, tmp_path: Path) -> None:
    """The enhancer learns from what the model draws, and lies beside it from its calibration on."""
    first = tmp_path / "first"
    toygan("train", "--photos", photos, *options("spade", tmp_path), "--output", first, "--max-images", 8)
    config = tmp_path / "enhancer.json"
    config.write_text(json.dumps({"network": {"small_resolution": 32}, "data": {"crop": 32}}))
    given = ("--family", "enhancer", "--resolution", 64, "--config", config)
    output = ("--output", tmp_path / "enhancer", "--max-images", 8)
    model, enhancer = first / "model", tmp_path / "enhancer" / "model"
    trained = toygan("train", "--photos", photos, *given, *output, "--first-stage", model)
    assert "the enhancer is in" in trained.output
    with pytest.raises(ModelError, match="it is an enhancer"):
        toygan("calibrate", "--model", enhancer, "--photos", photos)
    toygan("calibrate", "--model", model, "--photos", photos, "--enhancer", enhancer)
    where = ("--output", tmp_path / "store")
    with suppress(RunFailed):  # after eight images of training no picture needs to pass the checks
        generated = ("--catalog", catalog(tmp_path, "spade"), *where, "--layout-model", model)
        toygan("generate", *generated, "--run-id", "first")
    store = open_store(str(tmp_path / "store"))
    part = pq.read_table(pa.BufferReader(store.get(part_key("first", 0))), schema=IMAGES).to_pylist()
    assert {(row["width"], row["height"]) for row in part} == {(64, 64)}
    shown = next(row for row in part if row["image_uri"])
    with Image.open(io.BytesIO(store.get(shown["image_uri"]))) as image:
        assert image.size == (64, 64)
    toygan("models", "add", model, "--name", model.name, "--store", tmp_path / "store")
    again = toygan("reproduce", shown["image_id"], *where)
    assert "the same" in again.output
