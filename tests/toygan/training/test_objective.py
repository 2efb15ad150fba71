"""What a step minimises: the loss and the penalties that the config names, and nothing else."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from math import log
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.toygan.training.tiny import changed, tiny
from toygan.conditions.text_bank import TextBank
from toygan.data.augment import draw_augmentation
from toygan.data.photos import PhotoSet
from toygan.images import from_uint8
from toygan.models.layers import LayoutDrawingGenerator, StyledGenerator, StyleEncodingGenerator
from toygan.training import objectives
from toygan.training.batches import Batch, draw_batch, epoch_rows, mirror, step_rng
from toygan.training.config import LossName, PerceptualDistance, TrainConfig
from toygan.training.ema import update_ema
from toygan.training.losses import LOSSES, content_loss, perceptual_loss, product_colour_loss
from toygan.training.presets import PRESETS
from toygan.training.sample import make_latents, with_blended_texts
from toygan.training.state import TrainState, start
from toygan.training.step import train_step

CPU = torch.device("cpu")


def train(photos: PhotoSet, config: TrainConfig, *, steps: int) -> TrainState:
    state = start(config, categories=2, device=CPU)
    for _ in range(steps):
        rows = epoch_rows(len(photos), config, state.images_seen)
        rng = step_rng(config.data.seed, state.images_seen)
        train_step(state, draw_batch(photos, rows, config, state.generator.latent_size, rng), config, rng)
        state.images_seen += config.data.batch_size
    return state


def plain_step(state: TrainState, photos: PhotoSet, config: TrainConfig) -> None:
    """Hinge loss without penalties, written out in one piece: what the bundled model was trained with."""
    rng = step_rng(config.data.seed, state.images_seen)
    rows = epoch_rows(len(photos), config, state.images_seen)
    mirrored = torch.rand(len(rows), generator=rng) < 0.5
    real = mirror(from_uint8(photos.images[rows]), mirrored)
    colour = photos.colour[rows].clone()
    colour[torch.rand(len(rows), generator=rng) < config.data.colour_dropout] = 0
    conditions = {"category": photos.category[rows], "colour": colour}
    latents = [torch.randn((len(rows), state.generator.latent_size), generator=rng) for _ in range(2)]
    augmentations = [draw_augmentation(len(rows), 32, rng) for _ in range(3)]
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.optimizer.precision == "bf16")
    state.discriminator.requires_grad_(True)
    with autocast:
        with torch.no_grad():
            generated = state.generator(latents[0], conditions)
        views = torch.cat([augmentations[0].of_pictures(real), augmentations[1].of_pictures(generated)])
        both = {name: torch.cat([value, value]) for name, value in conditions.items()}
        scores = state.discriminator(views, both)
        loss = F.relu(1 - scores[: len(rows)]).mean() + F.relu(1 + scores[len(rows) :]).mean()
    state.discriminator_optimizer.zero_grad()
    loss.backward()
    state.discriminator_optimizer.step()
    state.discriminator.requires_grad_(False)
    with autocast:
        generated = state.generator(latents[1], conditions)
        shown = augmentations[2].of_pictures(generated)
        loss = -state.discriminator(shown, conditions).mean()
    state.generator_optimizer.zero_grad()
    loss.backward()
    state.generator_optimizer.step()
    half_life = min(config.optimizer.ema_half_life_images, 0.05 * state.images_seen + 1)
    update_ema(state.ema, state.generator, batch_size=len(rows), half_life_images=half_life)
    state.images_seen += config.data.batch_size


def assert_same(one: TrainState, other: TrainState) -> None:
    for name, module in one.modules.items():
        values = other.modules[name].state_dict()
        differing = [key for key, value in module.state_dict().items() if not torch.equal(value, values[key])]
        assert differing == [], name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_by_default_a_step_is_the_plain_one_bit_for_bit(photos: PhotoSet, precision: Any) -> None:
    config = tiny(precision=precision)
    reference = start(config, categories=2, device=CPU)
    for _ in range(5):
        plain_step(reference, photos, config)
    assert_same(train(photos, config, steps=5), reference)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains(photos: PhotoSet, loss: LossName) -> None:
    config = tiny(loss=loss)
    state = train(photos, config, steps=3)
    fresh = start(config, categories=2, device=CPU)
    for name, module in state.modules.items():
        values = module.state_dict()
        assert all(value.isfinite().all() for value in values.values())
        assert any(
            not torch.equal(value, values[key]) for key, value in fresh.modules[name].state_dict().items()
        )


@pytest.fixture
def penalties(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Tensor, float]]:
    """Name, pictures and value of every penalty that is computed."""
    seen: list[tuple[str, Tensor, float]] = []

    def watch(name: str, real: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        def watched(images: Tensor, logits: Tensor) -> Tensor:
            value = real(images, logits)
            seen.append((name, images.detach(), value.item()))
            return value

        return watched

    for name in ("r1_penalty", "r2_penalty"):
        monkeypatch.setattr(objectives, name, watch(name, getattr(objectives, name)))
    return seen


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, []),
        ({"r1_gamma": 0.1}, ["r1_penalty"] * 5),
        ({"r1_gamma": 0.1, "penalty_every_steps": 2}, ["r1_penalty"] * 3),  # steps 0, 2 and 4
        ({"r1_gamma": 0.1, "r2_gamma": 0.2, "penalty_every_steps": 4}, ["r1_penalty", "r2_penalty"] * 2),
        ({"r2_gamma": 0.1, "penalty_every_steps": 3}, ["r2_penalty"] * 2),
    ],
)
def test_penalties_come_as_the_config_says(
    photos: PhotoSet, penalties: list[tuple[str, Tensor, float]], changes: dict[str, Any], wanted: list[str]
) -> None:
    train(photos, tiny(**changes), steps=5)
    assert [name for name, _, _ in penalties] == wanted
    assert all(images.dtype == torch.float32 for _, images, _ in penalties)


def test_r3gan_pairs_its_logits_and_holds_both_slopes_in_every_step(
    photos: PhotoSet, penalties: list[tuple[str, Tensor, float]]
) -> None:
    """The first step by hand: with zero weights behind the features all logits are equal, log 2 each pair."""
    preset = PRESETS["r3gan"]
    assert (preset.family, preset.objective.loss) == ("dcgan", "relativistic")
    config = changed(
        preset,
        resolution=32,
        network=tiny().network,
        batch_size=4,
        precision="fp32",
        checkpoint_every_images=4,
    )
    state = start(config, categories=2, device=CPU)
    with torch.no_grad():
        for weight in (*state.discriminator.logit.parameters(), *state.discriminator.projection.parameters()):
            weight.zero_()
    rng = step_rng(0, 0)
    batch = draw_batch(photos, torch.arange(4), config, state.generator.latent_size, rng)
    losses = train_step(state, batch, config, rng)
    assert losses[1].item() == pytest.approx(log(2))
    assert [(name, value) for name, _, value in penalties] == [("r1_penalty", 0), ("r2_penalty", 0)]
    train(photos, config, steps=3)
    assert [name for name, _, _ in penalties[2:]] == ["r1_penalty", "r2_penalty"] * 3


def step_losses(photos: PhotoSet, **changes: Any) -> tuple[float, TrainState]:
    """The discriminator's loss in the first step, and the state after it."""
    config = tiny(precision="fp32", **changes)
    state = start(config, categories=2, device=CPU)
    rng = step_rng(0, 0)
    batch = draw_batch(photos, torch.arange(4), config, state.generator.latent_size, rng)
    losses = train_step(state, batch, config, rng)
    return losses[1].item(), state


def test_a_lazy_penalty_weighs_as_much_more(
    photos: PhotoSet, penalties: list[tuple[str, Tensor, float]]
) -> None:
    """The first of sixteen steps carries the penalty of all sixteen."""
    plain, _ = step_losses(photos)
    often, _ = step_losses(photos, r1_gamma=3.0)
    lazy, _ = step_losses(photos, r1_gamma=3.0, penalty_every_steps=16)
    (_, _, value), (_, _, again) = penalties
    assert value == again > 0
    assert often - plain == pytest.approx(3 * value, rel=1e-3)
    assert lazy - plain == pytest.approx(16 * 3 * value, rel=1e-3)


def test_the_penalties_see_the_pictures_that_they_are_meant_for(
    photos: PhotoSet, penalties: list[tuple[str, Tensor, float]]
) -> None:
    step_losses(photos, r1_gamma=1.0, r2_gamma=1.0)
    real, generated = (images for _, images, _ in penalties)
    assert real.mean() > generated.mean() + 0.2  # photos have white ground, a fresh generator paints grey


@pytest.mark.slow
def test_r1_makes_the_score_flatter(photos: PhotoSet) -> None:
    def slope(state: TrainState) -> float:
        images = from_uint8(photos.images).requires_grad_(True)
        state.discriminator.eval()
        scores = state.discriminator(images, {"category": photos.category, "colour": photos.colour})
        (gradients,) = torch.autograd.grad(scores.sum(), images)
        return gradients.flatten(1).norm(dim=1).mean().item()

    config = {"loss": "non_saturating", "discriminator_lr": 3e-3}
    free = slope(train(photos, tiny(**config), steps=60))
    held = slope(train(photos, tiny(**config, r1_gamma=100.0, penalty_every_steps=4), steps=60))
    assert held < 0.6 * free


def styled(**changes: Any) -> TrainConfig:
    network = {"latent_size": 4, "style_size": 4, "channel_base": 64, "max_channels": 4}
    return tiny(family="stylegan", network=network, path_length_weight=2.0, **changes)


def test_path_length_comes_every_few_steps_and_keeps_its_mean(
    photos: PhotoSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    real = objectives.path_lengths

    def watched(images: Tensor, styles: Tensor, directions: Tensor) -> Tensor:
        lengths = real(images, styles, directions)
        seen.append(lengths.detach().mean().item())
        assert len(images) == 2  # half of the batch
        assert abs(directions.std().item() * 32 - 1) < 0.1  # variance 1 / (32 x 32)
        return lengths

    monkeypatch.setattr(objectives, "path_lengths", watched)
    state = train(photos, styled(), steps=5)
    first, second = seen  # of the steps 0 and 4
    assert isinstance(state.generator, StyledGenerator)
    wanted = 0.99 * 0.01 * first + 0.01 * second
    assert state.generator.mean_path_length.item() == pytest.approx(wanted, rel=1e-4)


def test_the_path_length_reaches_the_generator(photos: PhotoSet) -> None:
    config = styled(precision="fp32")
    with_it, without = (
        train(photos, config, steps=1),
        train(photos, changed(config, path_length_weight=0.0), steps=1),
    )
    assert not torch.equal(with_it.generator.base, without.generator.base)
    differing = [
        key
        for key, value in with_it.discriminator.state_dict().items()
        if not torch.equal(value, without.discriminator.state_dict()[key])
    ]
    assert differing == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("distance", "count", "compare"), [("directions", 4, perceptual_loss), ("values", 2, content_loss)]
)
def test_the_perceptual_loss_is_of_the_unmoved_pictures_and_weighs_as_told(
    photos: PhotoSet,
    distance: PerceptualDistance,
    count: int,
    compare: Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor],
) -> None:
    """The frozen network has its own eyes: the discriminator's pictures are moved and cut, these are not."""
    losses, side = {}, 160
    for weight in (0.0, 1.0, 3.0):
        config = tiny(
            precision="fp32",
            perceptual_weight=weight,
            perceptual_side=side,
            perceptual_distance=distance,
            perceptual_maps=count,
        )
        state = start(config, categories=2, device=CPU)
        rng = step_rng(0, 0)
        batch = draw_batch(photos, torch.arange(4), config, state.generator.latent_size, rng)
        if weight == 1:
            assert state.perceptual is not None
            generated = deepcopy(state.generator)(batch.latents[1], batch.conditions)
            maps = [state.perceptual.look(images, side=side) for images in (batch.real, generated)]
            assert [len(each) for each in maps] == [count, count]
            wanted = compare(*maps).item()
            before = deepcopy(state.perceptual.state_dict())
        losses[weight] = train_step(state, batch, config, rng)[0].item()
        if weight == 1:
            assert all(
                torch.equal(value, before[key]) for key, value in state.perceptual.state_dict().items()
            )
            assert "perceptual" not in state.modules  # a checkpoint does not hold it
    assert losses[1.0] - losses[0.0] == pytest.approx(wanted, rel=1e-4)
    assert losses[3.0] - losses[0.0] == pytest.approx(3 * wanted, rel=1e-4)


@pytest.mark.parametrize("family", ["dcgan", "projected"])
@pytest.mark.slow
def test_a_style_encoder_learns_from_the_photos_it_reads(photos: PhotoSet, family: str) -> None:
    """By reconstruction and divergence; the latents of a picture are then those of its photo."""
    network = {**tiny().network, "style_encoder": True, "mapping_layers": 1}
    if family == "projected":
        network |= {"head_channels": 4, "backbone_resolution": 32}
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


def test_latents_of_the_prior_are_judged_but_not_compared(photos: PhotoSet) -> None:
    """The last quarter of 8 is drawn as generation draws; what those photos show says nothing of the loss."""
    config = _with_style(prior_share=0.25, batch_size=8, discriminator_lr=1e-12)
    state = start(config, categories=2, device=CPU)
    rows = epoch_rows(len(photos), config, 0)
    batch = draw_batch(photos, rows, config, state.generator.latent_size, step_rng(0, 0))
    assert isinstance(state.generator, StyleEncodingGenerator)
    drawn = make_latents(state.generator, batch.latents[1], batch, config)
    mean, log_variance = state.generator.encode_style(batch.real[:6])
    read = mean + (log_variance / 2).exp() * batch.latents[1][:6]
    torch.testing.assert_close(drawn.values, torch.cat([read, batch.latents[1][6:]]))
    assert drawn.compared == 6
    assert drawn.divergence is not None
    torch.testing.assert_close(drawn.divergence, _divergence(state, batch.real[:6]).sum(1).mean())
    whole = _loss(state, batch, config)
    for first, same in ((6, True), (5, False)):
        negated = replace(batch, real=torch.cat([batch.real[:first], -batch.real[first:]]))
        assert (_loss(state, negated, config) == pytest.approx(whole, abs=1e-5)) == same
    others = batch.latents[1].index_fill(0, torch.tensor([7]), 3.0)
    assert _loss(state, replace(batch, latents=(batch.latents[0], others)), config) != whole


def test_layouts_of_its_own_are_judged_but_not_compared(photos: PhotoSet) -> None:
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
    drawn = replace(
        photos,
        image_condition="layout",
        condition_images=torch.randint(0, 4, (count, 32, 32), dtype=torch.uint8),
        lines=torch.full((count, 32, 32), 255, dtype=torch.uint8),
    )
    state = start(config, categories=2, device=CPU)
    batch = draw_batch(drawn, torch.arange(8), config, state.generator.latent_size, step_rng(0, 0))
    whole = _loss(state, batch, config)
    for first, same in ((6, True), (5, False)):
        negated = replace(batch, real=torch.cat([batch.real[:first], -batch.real[first:]]))
        assert (_loss(state, negated, config) == pytest.approx(whole, abs=1e-5)) == same
    assert isinstance(state.generator, LayoutDrawingGenerator)
    _, lacking = deepcopy(state.generator).forward_with_layouts(batch.latents[1], batch.conditions, 6)
    weighted = _loss(state, batch, changed(config, layout_weight=3.0))
    assert weighted - whole == pytest.approx(2 * lacking.item(), rel=1e-3)
    known = TextBank.of(torch.eye(8), 0.1)
    read = replace(drawn, text=torch.eye(8)[:count])
    told = draw_batch(read, torch.arange(8), config, state.generator.latent_size, step_rng(0, 0), known=known)
    assert told.blended_text is not None
    heard = with_blended_texts(state.generator, told, config).conditions["text"]
    assert torch.equal(heard[:6], told.conditions["text"][:6])
    assert torch.equal(heard[6:], told.blended_text[6:])


def test_the_products_colour_counts_where_it_was_told(photos: PhotoSet) -> None:
    """By its weight, and of drawn latents too; a photo whose colour is withheld says nothing."""
    config = _with_style(prior_share=0.5, batch_size=8, colour_dropout=0.0)
    state = start(config, categories=2, device=CPU)
    batch = draw_batch(photos, torch.arange(8), config, state.generator.latent_size, step_rng(0, 0))
    with torch.no_grad():
        drawn = make_latents(state.generator, batch.latents[1], batch, config)
        generated = deepcopy(state.generator)(drawn.values, batch.conditions)
    colours = product_colour_loss(generated, batch.real, torch.ones(8, dtype=torch.bool))
    assert colours > 0
    without, weighted = (_loss(state, batch, changed(config, colour_weight=each)) for each in (0.0, 2.0))
    assert weighted - without == pytest.approx(2 * colours.item(), abs=1e-2)
    withheld = {**batch.conditions, "colour": torch.zeros(8, 4)}
    untold = replace(batch, conditions=withheld)
    assert _loss(state, untold, changed(config, colour_weight=2.0)) == pytest.approx(
        _loss(state, untold, config)
    )


def test_drawn_latents_come_with_blended_texts(photos: PhotoSet) -> None:
    """Of the last quarter, for photos and pictures alike; where no latents are read, of none."""
    texts = torch.eye(8)[: len(photos)]
    config = _with_style(prior_share=0.25, batch_size=8, text_encoder="any", text_smoothing=0.1)
    state = start(config, categories=2, device=CPU, texts=texts)
    told = replace(photos, text=texts)
    known = TextBank.of(texts, 0.1)
    rows = epoch_rows(len(photos), config, 0)
    batch = draw_batch(told, rows, config, state.generator.latent_size, step_rng(0, 0), known=known)
    assert batch.blended_text is not None
    whole = _loss(state, batch, config)
    for row, heard in ((5, False), (6, True)):
        others = batch.blended_text.clone()
        others[row] = torch.eye(8)[(rows[row] + 1) % 8]
        assert (_loss(state, replace(batch, blended_text=others), config) != whole) == heard
        own = batch.conditions["text"].clone()
        own[row] = torch.eye(8)[(rows[row] + 1) % 8]
        others_text = replace(batch, conditions={**batch.conditions, "text": own})
        assert (_loss(state, others_text, config) != whole) == (not heard)
