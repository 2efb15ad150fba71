"""Figures that only some models have: approval, layouts, perceptual diversity."""

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from flows.cli import cli
from tests.models import tiny_model
from tests.shards import COLOURS, write_shard
from tests.toygan.evaluation.evaluations import CATEGORIES, VAL_COLOURS, Copier, copier, rows
from tests.toygan.evaluation.evaluations import model as model
from tests.toygan.evaluation.evaluations import photos as photos
from tests.toygan.evaluation.evaluations import random_weights as random_weights
from tests.toygan.evaluation.evaluations import train as train
from tests.toygan.evaluation.evaluations import val as val
from toygan.artifact.model import GeneratedBatch, Model
from toygan.artifact.product_finder import FramedSnapshot
from toygan.conditions.condition_types import ImageCondition
from toygan.conditions.product import ProductConditions
from toygan.data.photos import PhotoSet, load_photos
from toygan.errors import BadInput
from toygan.evaluation.evaluate import evaluate
from toygan.evaluation.result import Evaluation


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
        generated = super().generate(seeds, products, batch_size)
        return replace(generated, pixels=self.memory.images[chosen].permute(0, 2, 3, 1).numpy())


class HalfCopier(Copier):
    """Draws photos where one half of the colours is wanted and noise for the others, and knows it."""

    def generate(
        self, seeds: Sequence[int], products: Sequence[ProductConditions], batch_size: int
    ) -> GeneratedBatch:
        generated = super().generate(seeds, products, batch_size)
        good = np.array([product.colour_hex in VAL_COLOURS[:3] for product in products])
        noise = np.random.default_rng(seeds[0]).integers(0, 256, generated.pixels.shape, dtype=np.uint8)
        return replace(
            generated,
            pixels=np.where(good[:, None, None, None], generated.pixels, noise),
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


class Forger(Copier):
    """Draws photos; half of the snapshots that it is given do not show their product."""

    def generate(
        self, seeds: Sequence[int], products: Sequence[ProductConditions], batch_size: int
    ) -> GeneratedBatch:
        generated = super().generate(seeds, products, batch_size)
        shown = [product.colour_hex in VAL_COLOURS[:3] for product in products]
        snapshots = [
            np.dstack([pixels, np.full(pixels.shape[:2], 255 * each, np.uint8)])
            for pixels, each in zip(generated.pixels, shown, strict=True)
        ]
        return replace(generated, snapshots=[FramedSnapshot.of(each) for each in snapshots])


@pytest.mark.slow
def test_nothing_is_approved_that_the_pipeline_would_not_approve(
    model: Model, val: PhotoSet, train: PhotoSet
) -> None:
    known = model.require_calibration()
    lenient = {name: replace(each, threshold=0.0) for name, each in known.categories.items()}
    model = replace(model, calibration=replace(known, categories=lenient))
    for kind, accepted in ((Copier, 1.0), (Guesser, 0.5), (Forger, 0.5)):
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
            shapes=[None] * len(layouts),
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
        generated = super().generate(seeds, products, batch_size)
        return replace(generated, pixels=np.full_like(generated.pixels, 255))


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
