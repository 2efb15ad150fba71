"""The linear probe."""

import json
from dataclasses import replace

import numpy as np
import pytest

from toygan.approval.probe import FittedProbe, fit_probe
from toygan.artifact.probe_weights import BACKBONE, Floats, ProbeWeights

NAMES = ("brick", "wheel")


def sample_sets(
    shift: float, *, count: int = 40, width: int = 6
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Evidence of photos and generated pictures: normal numbers, the photos' third one moved by `shift`."""
    random = np.random.default_rng(0)
    real = {name: random.normal(size=(count, width)) for name in NAMES}
    for each in real.values():
        each[:, 2] += shift
    return real, {name: random.normal(size=(3 * count, width)) for name in NAMES}


def fit(
    real: dict[str, Floats], generated: dict[str, Floats], *, pictures_a_product: tuple[int, int] = (1, 1)
) -> FittedProbe:
    real_products, generated_products = (
        {name: [f"{name}-{row // count}" for row in range(len(each))] for name, each in side.items()}
        for side, count in zip((real, generated), pictures_a_product, strict=True)
    )
    return fit_probe(
        real,
        generated,
        real_products=real_products,
        generated_products=generated_products,
        folds=5,
        seed=0,
    )


def test_the_number_that_separates_photos_weighs_most() -> None:
    real, generated = sample_sets(4.0)
    fitted = fit(real, generated)
    weights = np.abs(fitted.weights.weights)
    assert weights.argmax() == 2
    assert weights[2] > 2 * np.delete(weights, 2).max()
    for name in NAMES:
        assert fitted.generated_logits[name].shape == (120,)
        assert fitted.weights.logits(real[name]).min() > np.median(fitted.generated_logits[name])
        found = fitted.weights.logits(generated[name])
        assert np.corrcoef(found, fitted.generated_logits[name])[0, 1] > 0.95


def test_the_unit_of_a_number_does_not_matter() -> None:
    real, generated = sample_sets(2.0)
    factor = np.array([1.0, 1.0, 1000.0, 1.0, 0.001, 1.0])
    moved = fit(*({name: each * factor + 7 for name, each in side.items()} for side in (real, generated)))
    for name in NAMES:
        before = fit(real, generated).generated_logits[name]
        np.testing.assert_allclose(moved.generated_logits[name], before, atol=1e-3)
        np.testing.assert_allclose(
            moved.weights.logits(real[name] * factor + 7),
            fit(real, generated).weights.logits(real[name]),
            atol=1e-3,
        )


def test_no_picture_is_scored_by_a_probe_that_was_fitted_to_it() -> None:
    """With more numbers than pictures a probe fits even noise. Held-out pictures must not show this."""
    real, generated = sample_sets(0.0, count=20, width=400)
    fitted = fit(real, generated)
    unseen = fitted.weights.logits(np.random.default_rng(1).normal(size=(1000, 400))).mean()
    overfit = unseen - fitted.weights.logits(generated["brick"]).mean()
    assert overfit > 0.03
    assert abs(fitted.generated_logits["brick"].mean() - unseen) < overfit / 4


def test_pictures_of_a_product_stay_together() -> None:
    """Every picture has a twin. A probe that was fitted to the twin would score noise as generated."""
    real, generated = sample_sets(0.0, count=20, width=400)
    twins = {name: np.repeat(each[:30], 2, axis=0) for name, each in generated.items()}
    together = fit(real, twins, pictures_a_product=(1, 2)).generated_logits
    apart = fit(real, twins).generated_logits
    assert np.mean([*apart.values()]) < np.mean([*together.values()]) - 0.02


def test_generated_pictures_stay_with_the_photos_of_their_product() -> None:
    """All photos of a product are copies of its picture, so the classes are equal.

    A probe that was fitted to the photos of its product would score the picture as real.
    """
    real, _ = sample_sets(0.0, count=20, width=400)
    copies = {name: np.repeat(each, 6, axis=0) for name, each in real.items()}
    together = fit(copies, real, pictures_a_product=(6, 1)).generated_logits
    for_itself = fit(copies, real).generated_logits
    assert abs(np.mean([*together.values()])) < 0.1
    assert np.mean([*for_itself.values()]) > 0.1


def test_too_few_for_folds() -> None:
    real, generated = sample_sets(4.0)
    one = {name: each[:1] for name, each in real.items()}
    fitted = fit_probe(
        one,
        generated,
        real_products={name: ["same"] for name in NAMES},
        generated_products={name: [f"{name}-{row}" for row in range(120)] for name in NAMES},
        folds=5,
        seed=0,
    )
    by_the_probe = fitted.weights.logits(generated["wheel"])
    np.testing.assert_allclose(fitted.generated_logits["wheel"], by_the_probe)


def test_a_category_without_photos() -> None:
    real, generated = sample_sets(4.0)
    fitted = fit({"brick": real["brick"], "wheel": real["wheel"][:0]}, generated)
    assert len(fitted.generated_logits["wheel"]) == 120


def test_the_logit_by_hand_and_what_is_no_probe() -> None:
    probe = ProbeWeights(backbone=BACKBONE, weights=(2.0, -1.0), intercept=0.5)
    assert probe.logits(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist() == [2.5, 0.5]
    for changes in ({"weights": ()}, {"weights": (1.0, float("nan"))}, {"intercept": float("inf")}):
        with pytest.raises(ValueError, match="all finite numbers"):
            replace(probe, **changes)  # type: ignore[arg-type]


def test_weights_are_as_long_as_they_have_to_be() -> None:
    weights = fit(*sample_sets(1.0)).weights
    assert len(json.dumps(weights.weights)) < 16 * len(weights.weights)
    assert weights == fit(*sample_sets(1.0)).weights
