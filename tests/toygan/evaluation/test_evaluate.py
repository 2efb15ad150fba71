import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from flows.cli import cli
from tests.models import tiny_model
from tests.shards import COLOURS, photo, photo_row, write_shard
from toygan.artifact.model import GeneratedBatch, Model
from toygan.conditions.condition_types import ImageCondition
from toygan.conditions.product import ProductConditions
from toygan.data.photos import PhotoSet, load_photos
from toygan.errors import BadInput, ModelError
from toygan.evaluation.drawings import draw
from toygan.evaluation.evaluate import evaluate, pairs_png
from toygan.evaluation.result import Evaluation, Scores
from toygan.progress import Progress

CATEGORIES = ("brick", "plant")
VAL_COLOURS = ("#A00010", "#204090", "#E0B010", "#107030", "#802080", "#F08020")


def rows(split: str, colours: Sequence[str], sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Squares and discs in every colour; JPEG sees every size differently."""
    for category in CATEGORIES:
        for colour_hex in colours:
            for size in sizes:
                sku = f"{split}-{category}-{colour_hex[1:]}-{size}"
                picture = photo(colour_hex, round_=category == "plant", size=(size, size))
                yield photo_row(sku, category, colour_hex, split=split, photo=picture)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shards = [*rows("train", COLOURS, (36, 44, 64)), *rows("val", VAL_COLOURS, (40,))]
    return write_shard(tmp_path_factory.mktemp("photos"), shards)


@pytest.fixture(scope="module")
def val(photos: Path) -> PhotoSet:
    return load_photos(photos, resolution=32, split="val", categories=CATEGORIES)


@pytest.fixture(scope="module")
def train(photos: Path) -> PhotoSet:
    return load_photos(photos, resolution=32, split="train", categories=CATEGORIES)


class Copier(Model):
    """Draws the photos of a set as they are: of the wanted category, the colours in turn."""

    memory: PhotoSet

    def generate(
        self, seeds: Sequence[int], products: Sequence[ProductConditions], batch_size: int
    ) -> GeneratedBatch:
        known = {name: self.memory.of_category(index) for index, name in enumerate(CATEGORIES)}
        of_category = [known[product.category] for product in products]
        chosen = [rows[seed % len(rows)] for seed, rows in zip(seeds, of_category, strict=True)]
        return GeneratedBatch(
            pixels=self.memory.images[chosen].permute(0, 2, 3, 1).numpy(),
            logits=np.zeros(len(chosen), dtype=np.float32),
            finite=np.ones(len(chosen), dtype=bool),
            snapshots=[None] * len(chosen),
            layout_similarities=[None] * len(chosen),
        )


class Recaller(Copier):
    """Draws the one photo of the wanted category and colour."""

    def generate(
        self, seeds: Sequence[int], products: Sequence[ProductConditions], batch_size: int
    ) -> GeneratedBatch:
        known = {
            (self.memory.categories[category], colour_hex): row
            for row, (category, colour_hex) in enumerate(
                zip(self.memory.category.tolist(), self.memory.colour_hexes, strict=True)
            )
        }
        chosen = [known[product.category, product.colour_hex] for product in products]
        drawn = super().generate(seeds, products, batch_size)
        return replace(drawn, pixels=self.memory.images[chosen].permute(0, 2, 3, 1).numpy())


class HalfCopier(Copier):
    """Draws photos where one half of the colours is wanted and noise for the others, and knows it."""

    def generate(
        self, seeds: Sequence[int], products: Sequence[ProductConditions], batch_size: int
    ) -> GeneratedBatch:
        drawn = super().generate(seeds, products, batch_size)
        good = np.array([product.colour_hex in VAL_COLOURS[:3] for product in products])
        noise = np.random.default_rng(seeds[0]).integers(0, 256, drawn.pixels.shape, dtype=np.uint8)
        return replace(
            drawn,
            pixels=np.where(good[:, None, None, None], drawn.pixels, noise),
            logits=np.where(good, 5, -5).astype(np.float32),
        )


class Guesser(Copier):
    """Draws photos, half of them from a known layout of another product."""

    def generate(
        self, seeds: Sequence[int], products: Sequence[ProductConditions], batch_size: int
    ) -> GeneratedBatch:
        known = [product.colour_hex in VAL_COLOURS[:3] for product in products]
        return replace(
            super().generate(seeds, products, batch_size),
            layout_similarities=[1.0 if each else 0.9 for each in known],
        )


def copier(model: Model, memory: PhotoSet, kind: type[Copier] = Copier) -> Copier:
    made = kind(**{field.name: getattr(model, field.name) for field in fields(model)})
    object.__setattr__(made, "memory", memory)
    return made


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model(categories=CATEGORIES).load()


@pytest.fixture(scope="module")
def random_weights(model: Model, val: PhotoSet, train: PhotoSet) -> Evaluation:
    return evaluate(model, val, train, pictures=24)


@pytest.fixture(scope="module")
def copies(model: Model, val: PhotoSet, train: PhotoSet) -> Evaluation:
    return evaluate(copier(model, train), val, train, pictures=24)


def with_progress(model: Model, val: PhotoSet, pictures: int, seed: int = 0) -> Any:
    with Progress(total=None, unit="pictures", description="test", stream=io.StringIO()) as progress:
        return draw(model, val, pictures=pictures, seed=seed, progress=progress)


@pytest.mark.slow
def test_real_photos_are_told_apart_and_have_their_colours(random_weights: Evaluation) -> None:
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


def test_every_condition_of_val_is_drawn_equally_often(model: Model, val: PhotoSet) -> None:
    drawings = with_progress(model, val, 30)
    assert sorted(set(np.bincount(drawings.rows, minlength=12))) == [2, 3]
    assert drawings.images.shape == (30, 3, 32, 32)
    assert len(set(drawings.seeds)) == 30
    # The ninth picture, drawn alone.
    row = drawings.rows[8]
    alone = model.generate([drawings.seeds[8]], [val.product(row)], 32)
    np.testing.assert_array_equal(alone.pixels[0], drawings.images[8].permute(1, 2, 0))


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
        (9, None, "9 pictures are too few to measure with; the least is 10"),
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


def test_photos_without_val_are_bad_input(tmp_path: Path) -> None:
    folder = tiny_model(categories=CATEGORIES).write(tmp_path / "tiny")
    shards = write_shard(tmp_path / "photos", list(rows("train", COLOURS, (40, 48))))
    options = ["--model", str(folder), "--photos", str(shards), "--device", "cpu"]
    result = CliRunner().invoke(cli, ["evaluate", *options])
    assert isinstance(result.exception, BadInput)
    assert "no usable photo of split 'val'" in str(result.exception)


def test_figures_that_only_some_models_have(random_weights: Evaluation) -> None:
    made, real = random_weights.overall.pictures, random_weights.overall.photos
    # Every photo of val is drawn twice, while no two of them have one category and colour.
    assert made.perceptual_diversity is not None
    assert made.perceptual_diversity > 0
    assert real.perceptual_diversity is None
    assert (made.layout_agreement, real.layout_agreement) == (None, None)


@pytest.mark.slow
def test_a_generator_that_ignores_its_latents_has_no_perceptual_diversity(
    model: Model, val: PhotoSet, train: PhotoSet
) -> None:
    evaluation = evaluate(copier(model, val, Recaller), val, train, pictures=24)
    assert evaluation.overall.pictures.perceptual_diversity == 0
    assert evaluation.overall.pictures.recall == 1


def test_approval_is_held_against_chance(random_weights: Evaluation) -> None:
    found = random_weights.approval
    assert found is not None
    assert (found.approved.pictures, found.by_score.pictures, found.random.pictures) == (12, 12, 12)
    assert found.approved.kid is not None
    assert found.random.kid is not None
    assert found.approved.precision == 0
    assert 0 <= found.own_acceptance <= 1
    assert found.category_calibration_error.keys() == {"brick", "plant"}
    for error in (found.calibration_error, *found.category_calibration_error.values()):
        assert error is not None
        assert 0 <= error.low <= error.high <= 1


@pytest.mark.slow
def test_a_discriminator_that_knows_good_pictures_makes_approval_pay(
    model: Model, val: PhotoSet, train: PhotoSet
) -> None:
    """Half of each category are photos, the other half is noise, and rated lower."""
    evaluation = evaluate(copier(model, train, HalfCopier), val, train, pictures=48)
    found, whole = evaluation.approval, evaluation.overall.pictures
    assert found is not None
    assert found.approved.kid is not None
    assert found.random.kid is not None
    assert whole.kid is not None
    assert found.approved.kid.value < whole.kid.value / 2
    assert found.approved.kid.value < found.random.kid.value - 3 * found.random.kid.error
    assert found.approved.precision == 1
    assert found.by_score == found.approved  # the checks find as little fault with a photo as the score


@pytest.mark.slow
def test_a_guessed_shape_is_no_more_approved_than_by_the_pipeline(
    model: Model, val: PhotoSet, train: PhotoSet
) -> None:
    known = model.require_calibration()
    lenient = {name: replace(each, threshold=0.0) for name, each in known.categories.items()}
    model = replace(model, calibration=replace(known, categories=lenient))
    for kind, accepted in ((Copier, 1.0), (Guesser, 0.5)):
        found = evaluate(copier(model, train, kind), val, train, pictures=24).approval
        assert found is not None
        assert found.own_acceptance == accepted


@pytest.mark.slow
def test_a_model_without_calibration_has_no_approval_to_measure(val: PhotoSet, train: PhotoSet) -> None:
    raw = tiny_model(categories=CATEGORIES).with_files(calibration=None).load()
    evaluation = evaluate(raw, val, train, pictures=12)
    assert evaluation.approval is None
    assert json.loads(evaluation.to_json())["approval"] is None
    assert "calibration error" not in evaluation.text()


def test_one_category_has_nothing_to_tell_apart(tmp_path: Path) -> None:
    shards = [*rows("train", COLOURS, (36, 44, 64)), *rows("val", VAL_COLOURS, (40, 48))]
    folder = write_shard(tmp_path, [row for row in shards if row["category"] == "brick"])
    sets = [
        load_photos(folder, resolution=32, split=split, categories=("brick",)) for split in ("val", "train")
    ]
    evaluation = evaluate(tiny_model(categories=("brick",)).load(), *sets, pictures=12)
    assert evaluation.overall.pictures.category_accuracy is None
    assert list(evaluation.categories) == ["brick"]
    assert evaluation.categories["brick"].pictures.kid == evaluation.overall.pictures.kid
    assert evaluation.text()


class Painter(Model):
    """Draws every layout as the photos show it: white ground, a dark product."""

    @property
    def image_condition(self) -> ImageCondition:
        return "layout"

    def generate(
        self, seeds: Sequence[int], products: Sequence[ProductConditions], batch_size: int
    ) -> GeneratedBatch:
        layouts = np.stack([product.image for product in products if product.image is not None])
        return GeneratedBatch(
            pixels=np.where(layouts[..., None] > 0, 40, 255).repeat(3, axis=3).astype(np.uint8),
            logits=np.zeros(len(layouts), dtype=np.float32),
            finite=np.ones(len(layouts), dtype=bool),
            snapshots=[None] * len(layouts),
            layout_similarities=[None] * len(layouts),
        )


def with_layouts(photos: PhotoSet) -> PhotoSet:
    """The same photos black on white, with layouts: everything that is no ground is of class 1."""
    layouts = (photos.images.float().mean(1) < 200).byte()
    images = torch.where(layouts[:, None] > 0, 40, 255).byte().expand(-1, 3, -1, -1).contiguous()
    return replace(photos, images=images, image_condition="layout", condition_images=layouts)


class LayoutIgnorer(Painter):
    """Draws nothing but ground."""

    def generate(
        self, seeds: Sequence[int], products: Sequence[ProductConditions], batch_size: int
    ) -> GeneratedBatch:
        drawn = super().generate(seeds, products, batch_size)
        return replace(drawn, pixels=np.full_like(drawn.pixels, 255))


@pytest.mark.slow
def test_pictures_are_held_against_their_layouts(
    val: PhotoSet, train: PhotoSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toygan.evaluation.evaluate.EPOCHS", 40)
    raw = tiny_model(categories=CATEGORIES).with_files(calibration=None).load()
    values = {field.name: getattr(raw, field.name) for field in fields(raw)}
    sets = with_layouts(val), with_layouts(train)
    faithful, random = (evaluate(kind(**values), *sets, pictures=24) for kind in (Painter, LayoutIgnorer))
    assert faithful.overall.photos.layout_agreement is not None
    assert faithful.overall.photos.layout_agreement > 0.9
    assert faithful.overall.pictures.layout_agreement == faithful.overall.photos.layout_agreement
    assert random.overall.pictures.layout_agreement is not None
    assert random.overall.pictures.layout_agreement < 0.6
    assert faithful.categories["brick"].pictures.layout_agreement is not None


def test_inception_without_its_weights_names_the_remedy(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tiny_model(categories=CATEGORIES).write(tmp_path / "tiny")
    options = ["--model", str(folder), "--photos", str(photos), "--device", "cpu"]
    result = CliRunner().invoke(cli, ["evaluate", *options, "--features", "inception"])
    assert isinstance(result.exception, BadInput)
    assert "download https://github.com/toshas/torch-fidelity" in str(result.exception)
    assert str(tmp_path) in str(result.exception)
