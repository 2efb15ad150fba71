"""Photos and models for the tests of calibration."""

from pathlib import Path

import pytest

from tests.models import TinyFiles, tiny_model
from tests.shards import COLOURS, photo_row, training_skus, write_shard
from toygan.calibration.calibrate import CalibrationSamples
from toygan.data.photos import PhotoSet, load_photos
from toygan.data.split import is_calibration_sku

CATEGORIES = ("brick", "plant")


CALIBRATION_SKUS = [sku for sku in (f"sku-{number}" for number in range(400)) if is_calibration_sku(sku)]


FEW, SOME = (CalibrationSamples(generated=count, profiled=8) for count in (20, 40))


def model_files() -> TinyFiles:
    return tiny_model(categories=CATEGORIES)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 products that calibrate, 12 of each category, among 30 that train, and some of `val`."""
    rows = [
        photo_row(sku, CATEGORIES[number % 2], COLOURS[number % 4])
        for number, sku in enumerate([*CALIBRATION_SKUS[:24], *training_skus(30)])
    ]
    rows += [photo_row(f"val-{number}", split="val") for number in range(9)]
    return write_shard(tmp_path_factory.mktemp("photos"), rows)


@pytest.fixture(scope="module")
def photos(shards: Path) -> PhotoSet:
    return load_photos(shards, resolution=32, split="train", categories=CATEGORIES)
