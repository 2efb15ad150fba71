"""`toygan train` on photos that are few, broken or of another kind than the family needs."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from catalog_schemas.photos import PHOTO_SHARD
from tests.flows.command import Command, Outcome
from tests.shards import COLOURS, SHARD_SCHEMA, eight_rows, photo, photo_row, training_skus, write_shard
from toygan.models import FAMILIES
from toygan.training.presets import PRESETS

BAD_INPUT = 2
WIDTHS = {"generator_channels": 4, "discriminator_channels": 4, "max_channels": 8}
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"generator_units": [16, 32, 16], "discriminator_units": [16, 8]},
    "dcgan": WIDTHS,
    "stylegan": {"latent_size": 8, "style_size": 8, "channel_base": 64, "max_channels": 8},
    "projected": {**WIDTHS, "backbone_resolution": 32},
    "pix2pix": WIDTHS,
    "spade": WIDTHS | {"modulation_channels": 4},
}


class Training:
    """Calls `toygan train` with networks of a few channels."""

    def __init__(self, folder: Path, toygan_here: Command) -> None:
        self.output = folder / "training"
        self._folder, self._toygan_here = folder, toygan_here

    def __call__(self, photos: Path, *more: str, family: str = "dcgan", batch_size: int = 4) -> Outcome:
        config = self._folder / "config.json"
        config.write_text(json.dumps({"network": SMALL[family], "data": {"batch_size": batch_size}}))
        return self._toygan_here(
            *("train", "--photos", photos, "--family", family, "--resolution", "32", "--config", config),
            *("--output", self.output, "--max-images", "8", "--device", "cpu", *more),
        )

    @property
    def config(self) -> dict[str, Any]:
        """What the model that came out says of itself."""
        content: dict[str, Any] = json.loads((self.output / "model" / "config.json").read_text())
        return content


@pytest.fixture
def train(tmp_path: Path, toygan_here: Command) -> Training:
    return Training(tmp_path, toygan_here)


def grey_png(levels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG")
    return file.getvalue()


def generated(row: dict[str, Any]) -> dict[str, Any]:
    """The row with a sketch and a layout, of two labels."""
    inside = np.zeros((40, 40), np.uint8)
    inside[10:30, 10:30] = 1
    return row | {"sketch": grey_png(255 - 255 * inside), "layout": grey_png(inside)}


DRAWN_SCHEMA = SHARD_SCHEMA.append(PHOTO_SHARD.field("sketch")).append(PHOTO_SHARD.field("layout"))


@pytest.mark.parametrize(
    "family",
    [
        name
        for name, of in FAMILIES.items()
        if not of().config.needs_small_picture and of().config.image_condition != "photo"
    ],
)
def test_eight_photos_of_one_category_are_enough_for_every_family(
    family: str, tmp_path: Path, train: Training
) -> None:
    """Though a batch is twice as large."""
    rows = [generated(photo_row(sku)) for sku in training_skus(8)]
    photos = write_shard(tmp_path / "photos", rows, schema=DRAWN_SCHEMA)
    outcome = train(photos, family=family, batch_size=16)
    assert outcome.code == 0, outcome.err
    assert train.config["categories"] == ["brick"]
    assert train.config["training"]["photos"] == 8
    assert train.config["training"]["images_seen"] == 16


def test_broken_photos_are_named_counted_and_left_out(
    tmp_path: Path, train: Training, caplog: pytest.LogCaptureFixture
) -> None:
    good, cut, text = training_skus(3)
    rows = [
        photo_row(good),
        photo_row(cut, photo=photo(COLOURS[1])[:-100]),
        photo_row(text, photo=b"no picture at all"),
    ]
    outcome = train(write_shard(tmp_path / "photos", rows))
    assert outcome.code == 0
    said = caplog.text
    assert (
        f"skipped the photo {cut}-0 of the product {cut} in photos-000.parquet: the picture is damaged"
        in said
    )
    assert (
        f"skipped the photo {text}-0 of the product {text} in photos-000.parquet: this is not a JPEG" in said
    )
    assert "skipped 2 photos that cannot be used; 1 are left" in said
    assert "Traceback" not in outcome.err
    assert train.config["training"]["photos"] == 1


def test_nothing_but_broken_photos(tmp_path: Path, train: Training) -> None:
    photos = write_shard(tmp_path / "photos", [photo_row(training_skus(1)[0], photo=b"no picture")])
    outcome = train(photos)
    assert outcome.code == BAD_INPUT
    assert f"no usable photo of split 'train' in {photos}" in outcome.err
    assert not train.output.exists()


@pytest.mark.parametrize(("family", "column"), [("pix2pix", "sketch"), ("spade", "layout")])
def test_a_column_that_the_family_needs_is_named(
    family: str, column: str, tmp_path: Path, train: Training
) -> None:
    outcome = train(write_shard(tmp_path / "photos", eight_rows()), family=family)
    assert outcome.code == BAD_INPUT
    said = f"photos-000.parquet has no column '{column}', which this family needs; give photo shards with"
    assert said in outcome.err
    assert not train.output.exists()


def test_an_unknown_preset_lists_the_presets(tmp_path: Path, toygan_here: Command) -> None:
    outcome = toygan_here(
        "train", "--photos", tmp_path, "--family", "biggan", "--output", tmp_path / "training"
    )
    assert outcome.code == BAD_INPUT
    assert outcome.err == (
        f"toygan: unknown model family or preset 'biggan'; known are {', '.join(PRESETS)}\n"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--recipe", "mine"), "there is no recipe 'mine'; known are pix2pix-256, "),
        (
            ("--recipe", "spade-256", "--family", "dcgan", "--first-stage", "x"),
            "--family, --first-stage cannot be given with --recipe, because the recipe sets these options",
        ),
    ],
)
def test_a_recipe_is_known_and_complete(
    given: tuple[str, ...], message: str, tmp_path: Path, toygan_here: Command
) -> None:
    outcome = toygan_here("train", "--photos", tmp_path, "--output", tmp_path / "training", *given)
    assert outcome.code == BAD_INPUT
    assert message in outcome.err


def test_options_that_do_not_fit_are_refused_before_the_photos_are_read(
    tmp_path: Path, toygan_here: Command
) -> None:
    (tmp_path / "config.json").write_text('{"objective": {"kl_weight": 0.1}}')
    given = ("--config", tmp_path / "config.json", "--output", tmp_path / "training")
    outcome = toygan_here("train", "--photos", tmp_path / "no photos here", *given)
    assert outcome.code == BAD_INPUT
    assert outcome.err == "toygan: kl_weight is 0.1; dcgan has no style encoder, so leave it at 0\n"


def test_a_checkpoint_of_another_family_is_refused_by_both_names(tmp_path: Path, train: Training) -> None:
    photos = write_shard(tmp_path / "photos", eight_rows())
    assert train(photos, family="mlp").code == 0
    before = sorted(train.output.rglob("*"))
    outcome = train(photos, "--resume", family="dcgan")
    assert outcome.code == BAD_INPUT
    assert "is of the family mlp, but dcgan is to be trained" in outcome.err
    assert "Traceback" not in outcome.err
    assert sorted(train.output.rglob("*")) == before


def test_a_model_of_another_family_is_refused_by_both_names(tmp_path: Path, train: Training) -> None:
    photos = write_shard(tmp_path / "photos", eight_rows())
    assert train(photos, family="mlp").code == 0
    model = (train.output / "model").rename(tmp_path / "old")
    train.output = tmp_path / "second"
    outcome = train(photos, "--init", str(model), family="dcgan")
    assert outcome.code == BAD_INPUT
    assert "is of the family mlp, but dcgan is to be trained; give --family mlp" in outcome.err
    assert not train.output.exists()
