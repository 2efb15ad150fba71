"""What a step minimises: the loss and the penalties that the config names, and nothing else."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from math import log
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.toygan.training.steps import CPU, train
from tests.toygan.training.tiny import changed, tiny
from toygan.data.augment import draw_augmentation
from toygan.data.photos import PhotoSet
from toygan.images import from_uint8
from toygan.models.layers import StyledGenerator
from toygan.training import objectives
from toygan.training.batches import epoch_rows, mirror, sample_batch, step_rng
from toygan.training.config import LossName, PerceptualDistance, TrainConfig
from toygan.training.ema import update_ema
from toygan.training.losses import LOSSES, content_loss, detail_energy_loss, detail_loss, perceptual_loss
from toygan.training.objectives import _shifted
from toygan.training.presets import PRESETS
from toygan.training.state import TrainState, start
from toygan.training.step import train_step


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
    batch = sample_batch(photos, torch.arange(4), config, state.generator.latent_size, rng)
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
    batch = sample_batch(photos, torch.arange(4), config, state.generator.latent_size, rng)
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
def test_the_perceptual_loss_has_its_weight_and_unmoved_pictures(
    photos: PhotoSet,
    distance: PerceptualDistance,
    count: int,
    compare: Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor],
) -> None:
    """The discriminator's pictures are moved and cut; the frozen network takes them as they are."""
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
        batch = sample_batch(photos, torch.arange(4), config, state.generator.latent_size, rng)
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


@pytest.mark.parametrize(
    ("option", "loss"), [("detail_weight", detail_loss), ("detail_energy_weight", detail_energy_loss)]
)
def test_the_losses_on_detail_have_their_weights(
    option: str, loss: Callable[[Tensor, Tensor], Tensor], photos: PhotoSet
) -> None:
    losses = []
    for weight in (0.0, 1.0, 3.0):
        config = tiny(precision="fp32", **{option: weight})
        state, rng = start(config, categories=2, device=CPU), step_rng(0, 0)
        batch = sample_batch(photos, torch.arange(4), config, state.generator.latent_size, rng)
        generated = deepcopy(state.generator)(batch.latents[1], batch.conditions)
        losses.append(train_step(state, batch, config, rng)[0].item())
    wanted = loss(generated, batch.real).item()
    assert [each - losses[0] for each in losses[1:]] == pytest.approx([wanted, 3 * wanted], rel=1e-3)


@pytest.mark.slow
def test_the_adversarial_loss_has_its_weight(photos: PhotoSet) -> None:
    losses = []
    for weight in (0.0, 1.0, 3.0):
        config = tiny(precision="fp32", l1_weight=1.0, adversarial_weight=weight)
        state, rng = start(config, categories=2, device=CPU), step_rng(0, 0)
        batch = sample_batch(photos, torch.arange(4), config, state.generator.latent_size, rng)
        losses.append(train_step(state, batch, config, rng)[0].item())
    assert losses[2] - losses[0] == pytest.approx(3 * (losses[1] - losses[0]), rel=1e-4)
    assert losses[1] != losses[0]


def test_a_shift_cuts_both_pictures_at_the_same_place() -> None:
    picture = torch.rand(2, 3, 8, 8)
    corners = set()
    for seed in range(40):
        first, second = _shifted((picture, -picture), 2, torch.Generator().manual_seed(seed))
        assert first.shape == (2, 3, 6, 6)
        assert torch.equal(second, -first)
        corners |= {
            (y, x)
            for y in range(3)
            for x in range(3)
            if torch.equal(first, picture[..., y : y + 6, x : x + 6])
        }
    assert len(corners) == 9


def test_without_a_shift_pictures_stay_whole() -> None:
    picture = torch.rand(2, 3, 8, 8)
    first, _ = _shifted((picture, picture), 0, torch.Generator())
    assert torch.equal(first, picture)
