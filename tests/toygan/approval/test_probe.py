"""The last layer that is fitted on held-out photos."""

import json
from dataclasses import replace

import numpy as np
import pytest

from toygan.approval.probe import BACKBONE, FittedProbe, Floats, ProbeWeights, fit_probe

NAMES = ("brick", "wheel")


def sides(shift: float, *, count: int = 40, width: int = 6) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Photos and generated pictures, normal in every number, the photos' third one moved by `shift`."""
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


def test_it_weighs_what_tells_photos_from_pictures() -> None:
    real, generated = sides(4.0)
    fitted = fit(real, generated)
    weights = np.abs(fitted.weights.weights)
    assert weights.argmax() == 2
    assert weights[2] > 2 * np.delete(weights, 2).max()
    for name in NAMES:
        assert fitted.real_logits[name].shape == (40,)
        assert fitted.generated_logits[name].shape == (120,)
        assert fitted.real_logits[name].min() > np.median(fitted.generated_logits[name])
        found = fitted.weights.logits(real[name])
        assert np.corrcoef(found, fitted.real_logits[name])[0, 1] > 0.95


def test_the_unit_of_a_number_does_not_matter() -> None:
    real, generated = sides(2.0)
    factor = np.array([1.0, 1.0, 1000.0, 1.0, 0.001, 1.0])
    moved = fit(*({name: each * factor + 7 for name, each in side.items()} for side in (real, generated)))
    for name in NAMES:
        np.testing.assert_allclose(moved.real_logits[name], fit(real, generated).real_logits[name], atol=1e-3)
        np.testing.assert_allclose(
            moved.weights.logits(real[name] * factor + 7),
            fit(real, generated).weights.logits(real[name]),
            atol=1e-3,
        )


def test_a_picture_is_not_judged_by_a_probe_that_was_fitted_to_it() -> None:
    """With more numbers than pictures even noise fits; held out it must not."""
    real, generated = sides(0.0, count=20, width=400)
    fitted = fit(real, generated)
    own = [fitted.weights.logits(each) for each in (real["brick"], generated["brick"])]
    held_out = [fitted.real_logits["brick"], fitted.generated_logits["brick"]]
    assert own[0].mean() - own[1].mean() > 0.3
    assert abs(held_out[0].mean() - held_out[1].mean()) < 0.1


def test_photos_of_a_product_stay_together() -> None:
    """Every photo has a twin; judged by a probe that knows the twin, noise would look like a photo."""
    real, generated = sides(0.0, count=20, width=400)
    twins = {name: np.repeat(each[:10], 2, axis=0) for name, each in real.items()}
    together = fit(twins, generated, pictures_a_product=(2, 1)).real_logits
    apart = fit(twins, generated).real_logits
    assert np.mean([*apart.values()]) > np.mean([*together.values()]) + 0.1


def test_generated_pictures_stay_with_the_photos_of_their_product() -> None:
    """All pictures of a product are its photo over again, so nothing tells the sides apart; judged by a probe
    that was fitted to the pictures of its product, a photo would look generated."""
    real, _ = sides(0.0, count=20, width=400)
    copies = {name: np.repeat(each, 6, axis=0) for name, each in real.items()}
    together = fit(real, copies, pictures_a_product=(1, 6)).real_logits
    for_itself = fit(real, copies, pictures_a_product=(1, 1)).real_logits
    assert abs(np.mean([*together.values()])) < 0.1
    assert np.mean([*for_itself.values()]) < -0.1


def test_too_few_for_folds() -> None:
    real, generated = sides(4.0)
    one = {name: each[:1] for name, each in real.items()}
    fitted = fit_probe(
        one,
        generated,
        real_products={name: ["same"] for name in NAMES},
        generated_products={name: [f"{name}-{row}" for row in range(120)] for name in NAMES},
        folds=5,
        seed=0,
    )
    np.testing.assert_allclose(fitted.real_logits["wheel"], fitted.weights.logits(one["wheel"]))


def test_a_category_without_photos() -> None:
    real, generated = sides(4.0)
    fitted = fit({"brick": real["brick"], "wheel": real["wheel"][:0]}, generated)
    assert len(fitted.real_logits["wheel"]) == 0
    assert len(fitted.generated_logits["wheel"]) == 120


def test_the_logit_by_hand_and_what_is_no_probe() -> None:
    probe = ProbeWeights(backbone=BACKBONE, weights=(2.0, -1.0), intercept=0.5)
    assert probe.logits(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist() == [2.5, 0.5]
    for changes in ({"weights": ()}, {"weights": (1.0, float("nan"))}, {"intercept": float("inf")}):
        with pytest.raises(ValueError, match="all finite numbers"):
            replace(probe, **changes)  # type: ignore[arg-type]


def test_weights_are_as_long_as_they_have_to_be() -> None:
    weights = fit(*sides(1.0)).weights
    assert len(json.dumps(weights.weights)) < 16 * len(weights.weights)
    assert weights == fit(*sides(1.0)).weights
