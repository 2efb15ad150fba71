"""The objectives of style encoders, sampled latents, layouts and colours."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.toygan.training.steps import CPU, train
from tests.toygan.training.tiny import changed, tiny
from toygan.conditions.text_bank import TextBank
from toygan.data.photos import PhotoSet
from toygan.images import from_uint8
from toygan.models.layers import LayoutPredictingGenerator, StyleEncodingGenerator
from toygan.training.batches import Batch, epoch_rows, sample_batch, step_rng
from toygan.training.config import TrainConfig
from toygan.training.losses import product_colour_loss
from toygan.training.sample import make_latents, with_blended_texts
from toygan.training.state import TrainState, start
from toygan.training.step import train_step


@pytest.mark.parametrize("family", ["dcgan", "projected"])
@pytest.mark.slow
def test_a_style_encoder_learns_from_the_photos_it_reads(photos: PhotoSet, family: str) -> None:
    """By reconstruction and divergence; the latents of a picture are then those of its photo."""
    network = {**tiny().network, "style_encoder": True, "mapping_layers": 1}
    if family == "projected":
        network |= {"backbone_resolution": 32}
    config = tiny(family=family, network=network, l1_weight=10.0, kl_weight=0.05)
    state, fresh = train(photos, config, steps=2), start(config, categories=2, device=CPU)
    assert isinstance(state.generator, StyleEncodingGenerator)
    before = dict(fresh.generator.named_parameters())
    moved = {
        name for name, value in state.generator.named_parameters() if not torch.equal(value, before[name])
    }
    assert {name.split(".")[0] for name in moved} >= {"style_encoder", "mapping", "base", "to_rgb"}
    mean, log_variance = state.generator.eval().encode_style(from_uint8(photos.images[:4]))
    assert mean.shape == log_variance.shape == (4, 8)
    assert (mean[0] - mean[1]).abs().max() > 0


def _divergence(state: TrainState, images: Tensor) -> Tensor:
    """Of each latent on its own, (B, D)."""
    assert isinstance(state.generator, StyleEncodingGenerator)
    mean, log_variance = state.generator.encode_style(images)
    return (mean.square() + log_variance.exp() - 1 - log_variance) / 2


def _with_style(**changes: Any) -> TrainConfig:
    network = {**tiny().network, "style_encoder": True}
    return tiny(network=network, l1_weight=10.0, kl_weight=0.5, precision="fp32", **changes)


def _loss(state: TrainState, batch: Batch, config: TrainConfig) -> float:
    """Of the generator, before its step."""
    return train_step(deepcopy(state), batch, config, step_rng(0, 0))[0].item()


def test_latents_of_the_prior_are_scored_but_not_compared(photos: PhotoSet) -> None:
    """The last quarter of 8 is drawn as generation draws; what those photos show says nothing of the loss."""
    config = _with_style(prior_share=0.25, batch_size=8, discriminator_lr=1e-12)
    state = start(config, categories=2, device=CPU)
    rows = epoch_rows(len(photos), config, 0)
    batch = sample_batch(photos, rows, config, state.generator.latent_size, step_rng(0, 0))
    assert isinstance(state.generator, StyleEncodingGenerator)
    sampled = make_latents(state.generator, batch.latents[1], batch, config)
    mean, log_variance = state.generator.encode_style(batch.real[:6])
    read = mean + (log_variance / 2).exp() * batch.latents[1][:6]
    torch.testing.assert_close(sampled.values, torch.cat([read, batch.latents[1][6:]]))
    assert sampled.compared == 6
    assert sampled.divergence is not None
    torch.testing.assert_close(sampled.divergence, _divergence(state, batch.real[:6]).sum(1).mean())
    whole = _loss(state, batch, config)
    for first, same in ((6, True), (5, False)):
        negated = replace(batch, real=torch.cat([batch.real[:first], -batch.real[first:]]))
        assert (_loss(state, negated, config) == pytest.approx(whole, abs=1e-5)) == same
    others = batch.latents[1].index_fill(0, torch.tensor([7]), 3.0)
    assert _loss(state, replace(batch, latents=(batch.latents[0], others)), config) != whole


def test_predicted_layouts_are_scored_but_not_compared(photos: PhotoSet) -> None:
    """Of 8 the last quarter; the layouts that it draws of the others are learnt, by their weight."""
    count, network = len(photos), {"generator_channels": 4, "discriminator_channels": 4, "layout_classes": 4}
    config = tiny(
        family="pix2pix",
        network=network | {"max_channels": 8},
        l1_weight=10.0,
        prior_share=0.25,
        batch_size=8,
        precision="fp32",
        discriminator_lr=1e-12,
    )
    sampled = replace(
        photos,
        image_condition="layout",
        condition_images=torch.randint(0, 4, (count, 32, 32), dtype=torch.uint8),
        lines=torch.full((count, 32, 32), 255, dtype=torch.uint8),
    )
    state = start(config, categories=2, device=CPU)
    batch = sample_batch(sampled, torch.arange(8), config, state.generator.latent_size, step_rng(0, 0))
    whole = _loss(state, batch, config)
    for first, same in ((6, True), (5, False)):
        negated = replace(batch, real=torch.cat([batch.real[:first], -batch.real[first:]]))
        assert (_loss(state, negated, config) == pytest.approx(whole, abs=1e-5)) == same
    assert isinstance(state.generator, LayoutPredictingGenerator)
    _, layout_loss = deepcopy(state.generator).forward_with_layouts(batch.latents[1], batch.conditions, 6)
    weighted = _loss(state, batch, changed(config, layout_weight=3.0))
    assert weighted - whole == pytest.approx(2 * layout_loss.item(), rel=1e-3)
    known = TextBank.of(torch.eye(8), 0.1)
    read = replace(sampled, text=torch.eye(8)[:count])
    blended = sample_batch(
        read, torch.arange(8), config, state.generator.latent_size, step_rng(0, 0), known=known
    )
    assert blended.blended_text is not None
    texts = with_blended_texts(state.generator, blended, config).conditions["text"]
    assert torch.equal(texts[:6], blended.conditions["text"][:6])
    assert torch.equal(texts[6:], blended.blended_text[6:])


def test_the_products_colour_counts_where_it_is_given(photos: PhotoSet) -> None:
    """By its weight, and of drawn latents too; a photo whose colour is withheld says nothing."""
    config = _with_style(prior_share=0.5, batch_size=8, colour_dropout=0.0)
    state = start(config, categories=2, device=CPU)
    batch = sample_batch(photos, torch.arange(8), config, state.generator.latent_size, step_rng(0, 0))
    with torch.no_grad():
        sampled = make_latents(state.generator, batch.latents[1], batch, config)
        generated = deepcopy(state.generator)(sampled.values, batch.conditions)
    colours = product_colour_loss(generated, batch.real, torch.ones(8, dtype=torch.bool))
    assert colours > 0
    without, weighted = (_loss(state, batch, changed(config, colour_weight=each)) for each in (0.0, 2.0))
    assert weighted - without == pytest.approx(2 * colours.item(), abs=1e-2)
    withheld = {**batch.conditions, "colour": torch.zeros(8, 4)}
    untold = replace(batch, conditions=withheld)
    assert _loss(state, untold, changed(config, colour_weight=2.0)) == pytest.approx(
        _loss(state, untold, config)
    )


def test_sampled_latents_come_with_blended_texts(photos: PhotoSet) -> None:
    """Of the last quarter, for photos and pictures alike; where no latents are read, of none."""
    texts = torch.eye(8)[: len(photos)]
    config = _with_style(prior_share=0.25, batch_size=8, text_encoder="any", text_smoothing=0.1)
    state = start(config, categories=2, device=CPU, texts=texts)
    with_texts = replace(photos, text=texts)
    known = TextBank.of(texts, 0.1)
    rows = epoch_rows(len(photos), config, 0)
    batch = sample_batch(with_texts, rows, config, state.generator.latent_size, step_rng(0, 0), known=known)
    assert batch.blended_text is not None
    whole = _loss(state, batch, config)
    for row, is_used in ((5, False), (6, True)):
        others = batch.blended_text.clone()
        others[row] = torch.eye(8)[(rows[row] + 1) % 8]
        assert (_loss(state, replace(batch, blended_text=others), config) != whole) == is_used
        own = batch.conditions["text"].clone()
        own[row] = torch.eye(8)[(rows[row] + 1) % 8]
        others_text = replace(batch, conditions={**batch.conditions, "text": own})
        assert (_loss(state, others_text, config) != whole) == (not is_used)
