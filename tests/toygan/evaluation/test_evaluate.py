import io
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from flows.cli import cli
from tests.models import tiny_model
from tests.shards import COLOURS, write_shard
from tests.toygan.evaluation.evaluations import CATEGORIES, copier, rows
from tests.toygan.evaluation.evaluations import model as model
from tests.toygan.evaluation.evaluations import photos as photos
from tests.toygan.evaluation.evaluations import random_weights as random_weights
from tests.toygan.evaluation.evaluations import train as train
from tests.toygan.evaluation.evaluations import val as val
from toygan.artifact.model import Model
from toygan.data.photos import PhotoSet, load_photos
from toygan.errors import BadInput, ModelError
from toygan.evaluation.evaluate import evaluate, pairs_png
from toygan.evaluation.generated import generate_pictures
from toygan.evaluation.result import Evaluation, Scores
from toygan.progress import Progress


@pytest.fixture(scope="module")
def copies(model: Model, val: PhotoSet, train: PhotoSet) -> Evaluation:
    return evaluate(copier(model, train), val, train, pictures=24)


def with_progress(model: Model, val: PhotoSet, pictures: int, seed: int = 0) -> Any:
    with Progress(total=None, unit="pictures", description="test", stream=io.StringIO()) as progress:
        return generate_pictures(model, val, pictures=pictures, seed=seed, progress=progress)


@pytest.mark.slow
def test_real_photos_are_classified_right_and_have_their_colours(random_weights: Evaluation) -> None:
    real = random_weights.overall.photos
    assert real.pictures == 12
    assert real.category_accuracy is not None
    assert real.category_accuracy > 0.7  # learned from 24 photos in other colours; by chance 0.5
    assert real.colour_delta_e is not None
    assert real.colour_delta_e < 3
    assert (real.kid, real.fid, real.precision) == (None, None, None)


@pytest.mark.slow
def test_pictures_of_random_weights_are_far_from_photos(random_weights: Evaluation) -> None:
    made, real, perfect = (
        random_weights.overall.pictures,
        random_weights.overall.photos,
        random_weights.training_photos,
    )
    assert made.pictures == 24
    for distance in ("fid", "colour_delta_e", "nearest_training"):
        other = perfect if distance == "fid" else real
        assert getattr(made, distance) > 2 * getattr(other, distance)
    assert made.kid is not None
    assert perfect.kid is not None
    assert made.kid.value - 3 * made.kid.error > perfect.kid.value
    assert (made.precision, made.recall) == (0, 0)
    assert random_weights.near_copies == 0


def test_figures_by_category_are_of_that_category(random_weights: Evaluation) -> None:
    assert list(random_weights.categories) == ["brick", "plant"]
    for group in random_weights.categories.values():
        assert (group.pictures.pictures, group.photos.pictures) == (12, 6)
        assert group.pictures.kid is None  # six photos are too few
        assert group.pictures.fid is None
    both = [group.pictures for group in random_weights.categories.values()]
    assert np.mean([each.category_accuracy for each in both]) == pytest.approx(
        random_weights.overall.pictures.category_accuracy
    )


@pytest.mark.slow
def test_copies_of_training_photos_are_found_out(copies: Evaluation, train: PhotoSet) -> None:
    made = copies.overall.pictures
    assert made.category_accuracy == 1
    assert made.nearest_training == pytest.approx(0, abs=1e-3)
    assert copies.near_copies == 1
    assert made.colour_delta_e is not None
    assert copies.overall.photos.colour_delta_e is not None
    assert made.colour_delta_e > 2 * copies.overall.photos.colour_delta_e  # the colours are those of others
    assert 1 < len(copies.closest) <= 8
    assert len({pair.sku for pair in copies.closest}) == len(copies.closest)
    for pair in copies.closest:
        np.testing.assert_array_equal(*pair.pixels)
        np.testing.assert_array_equal(
            pair.pixels[1], train.images[train.skus.index(pair.sku)].permute(1, 2, 0)
        )
        assert pair.category in pair.sku


@pytest.mark.slow
def test_the_pairs_are_shown_side_by_side(copies: Evaluation) -> None:
    grid = np.asarray(Image.open(io.BytesIO(pairs_png(copies.closest))))
    assert grid.shape == (64, 32 * len(copies.closest), 3)
    np.testing.assert_array_equal(grid[:32], grid[32:])


def test_every_condition_of_val_is_used_equally_often(model: Model, val: PhotoSet) -> None:
    generated = with_progress(model, val, 30)
    assert sorted(set(np.bincount(generated.rows, minlength=12))) == [2, 3]
    assert generated.images.shape == (30, 3, 32, 32)
    assert len(set(generated.seeds)) == 30
    # The ninth picture, drawn alone.
    row = generated.rows[8]
    alone = model.generate([generated.seeds[8]], [val.product(row)], 32)
    np.testing.assert_array_equal(alone.pixels[0], generated.images[8].permute(1, 2, 0))


def test_the_seed_chooses_the_pictures(model: Model, val: PhotoSet) -> None:
    first, again, other = (with_progress(model, val, 12, seed) for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert first.seeds == again.seeds
    assert not set(first.seeds) & set(other.seeds)


def test_pictures_that_are_not_finite_end_the_evaluation(val: PhotoSet) -> None:
    broken = tiny_model(categories=CATEGORIES).load()
    next(iter(broken.generator.parameters())).fill_(float("nan"))
    with pytest.raises(ModelError, match="12 of 12 pictures of tiny are not finite"):
        with_progress(broken, val, 12)


@pytest.mark.parametrize(
    ("pictures", "few", "message"),
    [
        (9, None, "9 pictures are too few; at least 10 are needed"),
        (10, "val", "8 photos of val are too few"),
        (10, "train", "8 training photos are too few"),
    ],
)
def test_too_few_pictures_are_refused(
    model: Model, tmp_path: Path, pictures: int, few: str | None, message: str
) -> None:
    sets = {}
    for split in ("val", "train"):
        shards = write_shard(
            tmp_path / split, list(rows(split, COLOURS, (40,) if split == few else (40, 48)))
        )
        sets[split] = load_photos(shards, resolution=32, split=split, categories=CATEGORIES)
    with pytest.raises(BadInput, match=message):
        evaluate(model, sets["val"], sets["train"], pictures=pictures)


def test_the_json_holds_every_figure(random_weights: Evaluation) -> None:
    found = json.loads(random_weights.to_json())
    assert found["model"] == "tiny"
    assert found["schema_version"] == 1
    assert found["feature_network"] == "tf_efficientnet_lite0"
    made = random_weights.overall.pictures
    assert made.kid is not None
    assert found["overall"]["pictures"]["kid"] == {"value": made.kid.value, "error": made.kid.error}
    assert found["overall"]["pictures"].keys() == {field.name for field in fields(Scores)}
    assert found["categories"]["brick"]["pictures"]["kid"] is None
    assert found["closest"][0].keys() == {"category", "colour_hex", "seed", "sku", "distance"}


def test_the_table_shows_the_figures_in_their_columns(random_weights: Evaluation) -> None:
    lines = random_weights.text().splitlines()
    cells = {line[:36].strip(): line[36:].split() for line in lines}
    made, real = random_weights.overall.pictures, random_weights.overall.photos
    assert cells["pictures"] == ["24", "12", "24"]
    assert cells["FID"] == [f"{made.fid:.1f}", "-", f"{random_weights.training_photos.fid:.1f}"]
    assert cells["category right"] == [f"{made.category_accuracy:.3f}", f"{real.category_accuracy:.3f}", "-"]
    brick, error = (line.split() for line in lines if line.startswith("brick"))
    assert brick[:8] == ["brick", "12", "6", *["-"] * 5]
    approval = random_weights.approval
    assert approval is not None
    of_brick = approval.category_calibration_error["brick"]
    assert of_brick is not None
    assert error[1:] == [f"{of_brick.value:.3f}", f"({of_brick.low:.3f}", "to", f"{of_brick.high:.3f})"]


@pytest.mark.slow
def test_the_command_prints_the_same_figures(
    photos: Path, random_weights: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_model(categories=CATEGORIES).write(tmp_path / "tiny")
    options = ["--model", "./tiny", "--photos", str(photos), "--pictures", "24", "--device", "cpu"]
    result = CliRunner().invoke(cli, ["evaluate", *options, "--json", "--pairs", "pairs.png"])
    assert result.exit_code == 0, result.output
    assert result.stdout.rstrip() == random_weights.to_json()
    assert Image.open("pairs.png").size[1] == 64


def test_a_missing_folder_for_the_pairs_is_named_at_once(tmp_path: Path) -> None:
    options = ["--model", "toys", "--photos", "photos", "--pairs", str(tmp_path / "none" / "pairs.png")]
    result = CliRunner().invoke(cli, ["evaluate", *options])
    assert isinstance(result.exception, BadInput)
    assert f"there is no folder {tmp_path / 'none'}" in str(result.exception)


def test_photos_without_val_are_bad_input(tmp_path: Path) -> None:
    folder = tiny_model(categories=CATEGORIES).write(tmp_path / "tiny")
    shards = write_shard(tmp_path / "photos", list(rows("train", COLOURS, (40, 48))))
    options = ["--model", str(folder), "--photos", str(shards), "--device", "cpu"]
    result = CliRunner().invoke(cli, ["evaluate", *options])
    assert isinstance(result.exception, BadInput)
    assert "no usable photo of split 'val'" in str(result.exception)
