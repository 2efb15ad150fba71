"""What a model's score means: fitted on products that training left out."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.models import BATCH, nan_model, tiny_model
from tests.shards import COLOURS, photo_row, training_skus, write_shard
from tests.toygan.calibration.calibrations import CALIBRATION_SKUS, CATEGORIES, FEW, SOME, model_files
from tests.toygan.calibration.calibrations import photos as photos
from tests.toygan.calibration.calibrations import shards as shards
from toygan.artifact.calibration import Calibration, CalibrationSettings
from toygan.artifact.feature_extractor import FeatureExtractor
from toygan.artifact.model import GeneratedBatch, Model
from toygan.artifact.probe_weights import BACKBONE, ProbeWeights
from toygan.calibration import calibrate as calibrate_module
from toygan.calibration.calibrate import calibrate, score_photos
from toygan.conditions.product import ProductConditions
from toygan.data.photos import PhotoSet, load_photos
from toygan.data.split import is_calibration_sku
from toygan.errors import BadInput, ModelError
from toygan.images import from_uint8


class Witness:
    """Sees which pictures that were not drawn the discriminator scored, and what was drawn from then on: what
    was drawn before is for the colour profile."""

    def __init__(self, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scored: list[torch.Tensor] = []
        self.generated: dict[str, list[float]] = {}
        self.wanted: dict[str, list[str | None]] = {}
        self._is_drawing = False
        self._draw = Model.generate
        model.discriminator.register_forward_pre_hook(self._see)
        witness = self

        def draw(
            model: Model, seeds: Any, products: Sequence[ProductConditions], size: int
        ) -> GeneratedBatch:
            witness._is_drawing = True
            generated = witness._draw(model, seeds, products, size)
            witness._is_drawing = False
            if not witness.scored:
                return generated
            witness.generated.setdefault(products[0].category, []).extend(generated.logits.tolist())
            witness.wanted.setdefault(products[0].category, []).extend(each.colour_hex for each in products)
            return generated

        monkeypatch.setattr(Model, "generate", draw)

    def _see(self, discriminator: Any, inputs: tuple[torch.Tensor, Any]) -> None:
        if not self._is_drawing:
            self.scored.append(inputs[0])


def test_only_photos_of_calibration_products_are_scored(
    photos: PhotoSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_files().load()
    witness = Witness(model, monkeypatch)
    calibration = calibrate(model, photos, batch_size=BATCH, samples=FEW)
    held_out = [row for row, sku in enumerate(photos.skus) if is_calibration_sku(sku)]
    assert len(held_out) == 24
    assert torch.equal(torch.cat(witness.scored), from_uint8(photos.images[held_out]))
    assert {name: each.n_real for name, each in calibration.categories.items()} == {"brick": 12, "plant": 12}
    assert {name: each.n_generated for name, each in calibration.categories.items()} == {
        "brick": 20,
        "plant": 20,
    }


def test_both_sides_show_the_same_products_thresholds_other_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calibration products are red or blue, the others yellow; of plants none calibrates."""
    others = training_skus(12)
    rows = [photo_row(sku, "brick", COLOURS[number % 2]) for number, sku in enumerate(CALIBRATION_SKUS[:12])]
    rows += [photo_row(sku, "brick", COLOURS[2]) for sku in others[:8]]
    rows += [photo_row(sku, "plant", COLOURS[3]) for sku in others[8:]]
    shown = load_photos(write_shard(tmp_path, rows), resolution=32, split="train", categories=CATEGORIES)
    model = model_files().load()
    witness = Witness(model, monkeypatch)
    calibrate(model, shown, batch_size=BATCH, samples=SOME)
    assert set(witness.wanted["brick"][:40]) == set(COLOURS[:2])
    assert set(witness.wanted["brick"][40:]) == {COLOURS[2]}
    assert witness.wanted["plant"] == [COLOURS[3]] * 80


@pytest.mark.parametrize("acceptance", [0.25, 0.5, 0.9])
def test_the_threshold_lets_the_stated_share_pass(
    photos: PhotoSet, acceptance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No picture of a random network passes the checks, so the share is one of all pictures."""
    model = model_files().load()
    witness = Witness(model, monkeypatch)
    calibration = calibrate(
        model,
        photos,
        batch_size=BATCH,
        samples=SOME,
        settings=CalibrationSettings(acceptance=acceptance),
    )
    assert calibration.settings.acceptance == acceptance
    for name, each in calibration.categories.items():
        p_reals = each.p_reals(witness.generated[name][40:])
        assert (p_reals >= each.threshold).mean() >= acceptance
        assert (p_reals > each.threshold).mean() < acceptance
    assert any("no generated picture passes the checks" in warning for warning in calibration.warnings)


def test_pictures_that_fail_the_checks_set_no_threshold(
    photos: PhotoSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second picture fails: the threshold is that of the others."""
    model = model_files().load()
    witness = Witness(model, monkeypatch)
    passed = np.arange(40) % 2 == 0

    def _pass(generated: GeneratedBatch, wanted: Sequence[str | None], limits: Any) -> list[bool]:
        return [bool(each) for each in passed[: len(wanted)]]

    monkeypatch.setattr(calibrate_module, "_pass", _pass)
    calibration = calibrate(model, photos, batch_size=BATCH, samples=SOME)
    for name, each in calibration.categories.items():
        p_reals = each.p_reals(np.array(witness.generated[name][40:])[passed])
        assert (p_reals >= each.threshold).mean() == 0.5
    assert not any("no generated picture passes" in warning for warning in calibration.warnings)


def test_a_guessed_shape_sets_no_threshold(photos: PhotoSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every picture is a photo, and every second one from a known layout of another product."""
    model = model_files().load()
    witness = Witness(model, monkeypatch)
    draw = Model.generate

    def copied(model: Model, seeds: Any, products: Sequence[ProductConditions], size: int) -> GeneratedBatch:
        rows = [photos.colour_hexes.index(product.colour_hex) for product in products]
        return replace(
            draw(model, seeds, products, size),
            pixels=photos.images[rows].permute(0, 2, 3, 1).numpy(),
            layout_similarities=[1.0 if number % 2 else 0.9 for number in range(len(products))],
        )

    monkeypatch.setattr(Model, "generate", copied)
    calibration = calibrate(model, photos, batch_size=BATCH, samples=SOME)
    for name, each in calibration.categories.items():
        p_reals = each.p_reals(np.array(witness.generated[name][40:])[1::2])
        assert (p_reals >= each.threshold).mean() == 0.5
        assert each.threshold in p_reals
    assert not any("no generated picture passes" in warning for warning in calibration.warnings)


def test_a_higher_logit_never_means_a_lower_p_real(photos: PhotoSet) -> None:
    calibration = calibrate(model_files().load(), photos, batch_size=BATCH, samples=FEW)
    logits = np.linspace(-30, 30, 500)
    for each in calibration.categories.values():
        p_reals = each.p_reals(logits)
        assert (np.diff(p_reals) >= 0).all()
        assert 0 <= p_reals.min() <= p_reals.max() <= 1


def test_limits_of_a_category_without_photos_are_those_of_all(shards: Path) -> None:
    model = tiny_model(categories=("brick", "plant", "wheel"))
    photos = load_photos(shards, resolution=32, split="train", categories=("brick", "plant", "wheel"))
    calibration = calibrate(model.load(), photos, batch_size=BATCH, samples=FEW)
    wheel = calibration.categories["wheel"]
    assert (wheel.n_real, wheel.n_generated, wheel.pooled) == (0, 20, True)
    # all categories have fewer photos than limits of their own need
    assert wheel.limits == calibration.categories["brick"].limits == calibration.categories["plant"].limits
    # a square of half the side covers a quarter, the disc in it somewhat less
    assert 0.15 < wheel.limits.fill_ratio_min < wheel.limits.fill_ratio_max < 0.35


def test_the_same_photos_give_the_same_calibration(photos: PhotoSet) -> None:
    first, second = (
        calibrate(model_files().load(), photos, batch_size=BATCH, samples=FEW).to_json() for _ in range(2)
    )
    assert first == second


def test_photos_of_training_products_only_are_refused(tmp_path: Path) -> None:
    rows = [photo_row(sku, CATEGORIES[number % 2]) for number, sku in enumerate(training_skus(8))]
    photos = load_photos(write_shard(tmp_path, rows), resolution=32, split="train", categories=CATEGORIES)
    with pytest.raises(BadInput, match="none of the 8 products is a calibration product"):
        calibrate(model_files().load(), photos, batch_size=BATCH)


def test_a_generator_that_returns_nan_cannot_be_calibrated(photos: PhotoSet) -> None:
    model = nan_model(categories=CATEGORIES).load()
    with pytest.raises(ModelError, match="the model tiny returns NaN or infinity for brick"):
        calibrate(model, photos, batch_size=BATCH, samples=FEW)


@pytest.mark.slow
def test_a_probe_scores_if_it_is_asked_for(photos: PhotoSet) -> None:
    files = model_files()
    calibration = calibrate(files.load(), photos, batch_size=BATCH, samples=FEW, with_probe=True)
    assert calibration.probe is not None
    probed = files.with_files(calibration=calibration.to_json().encode()).load()
    # a disc is no noise: held-out photos differ from the pictures of a random network
    assert calibration.ece < 0.2
    logits = score_photos(probed, photos, range(len(photos)), BATCH)
    product = ProductConditions(category="brick")
    generated = probed.generate(list(range(BATCH)), [product] * BATCH, BATCH)
    assert logits.min() > generated.logits.max()
    images = from_uint8(torch.from_numpy(generated.pixels).permute(0, 3, 1, 2))
    with torch.inference_mode():
        evidence = FeatureExtractor()(images)
    by_hand = calibration.probe.logits(evidence.double().numpy())
    np.testing.assert_allclose(generated.logits, by_hand, rtol=1e-3, atol=1e-3)
    # the probe of before has no say in the next calibration
    again, fresh = (
        calibrate(model, photos, batch_size=BATCH, samples=FEW) for model in (probed, files.load())
    )
    assert again == fresh


def test_a_probe_needs_products_that_do_not_calibrate(tmp_path: Path) -> None:
    rows = [photo_row(sku, "brick", COLOURS[0]) for sku in CALIBRATION_SKUS[:12]]
    shown = load_photos(write_shard(tmp_path, rows), resolution=32, split="train", categories=CATEGORIES)
    with pytest.raises(BadInput, match="no photo is left for the fit of a probe"):
        calibrate(model_files().load(), shown, batch_size=BATCH, samples=FEW, with_probe=True)
    assert calibrate(model_files().load(), shown, batch_size=BATCH, samples=FEW).probe is None


@pytest.mark.parametrize("side", [160, pytest.param(224, marks=pytest.mark.slow)])
def test_evidence_is_the_deepest_map_that_the_network_sees(side: int) -> None:
    """Of the picture enlarged to what the probe says."""
    extractor = FeatureExtractor(side)
    images = torch.rand((2, 3, 128, 128), generator=torch.Generator().manual_seed(0)) * 2 - 1
    evidence = extractor(images)
    enlarged = F.interpolate(images, size=side, mode="bilinear", align_corners=False)
    deepest = extractor.backbone(enlarged)[-1].double()
    assert evidence.shape == (2, 320)
    np.testing.assert_allclose(evidence, deepest.mean((2, 3)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "resnet18"}, "320 weights for resnet18, but this version of toygan needs 320"),
        ({"weights": (1.0, 2.0)}, "2 weights for tf_efficientnet_lite1, .*; calibrate the model"),
    ],
)
def test_a_probe_that_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    files = model_files()
    probe = replace(ProbeWeights(backbone=BACKBONE, weights=(1.0,) * 320, intercept=0.0), **changes)
    calibration = replace(Calibration.from_json(files.files["calibration.json"]), probe=probe)
    with pytest.raises(ModelError, match=message):
        files.with_files(calibration=calibration.to_json().encode()).load()
