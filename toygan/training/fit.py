"""Adversarial training: one readable loop with explicit state.

Every random number of a step comes from a generator seeded by (seed, images seen), so a resumed training
needs no random state and ends with the same weights as an uninterrupted one: bit for bit on a CPU, with as
many threads.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, fields
from hashlib import sha256

import torch
from torch import Tensor, nn

from toygan.data.augment import augment
from toygan.data.photos import PhotoSet
from toygan.errors import BadInput
from toygan.images import from_uint8
from toygan.models import build
from toygan.models.layers import ConditionalDiscriminator, ConditionalGenerator, Conditions, StyledGenerator
from toygan.training.config import TrainConfig
from toygan.training.ema import update_ema
from toygan.training.losses import (
    LOSSES,
    mix,
    path_length_penalty,
    path_lengths,
    r1_penalty,
    r2_penalty,
    wgan_penalty,
)

PATH_LENGTH_DECAY = 0.01  # share of the newest mean in the running one: Karras et al. 2020, appendix B


@dataclass(kw_only=True)
class TrainState:
    """Everything that `fit` changes."""

    generator: ConditionalGenerator
    discriminator: ConditionalDiscriminator
    ema: ConditionalGenerator  # of the generator; what is kept in the end
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    images_seen: int = 0

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator, "ema": self.ema}

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Means over some steps."""

    generator: float
    discriminator: float
    real_logit: float
    generated_logit: float


def start(config: TrainConfig, *, categories: int, device: torch.device) -> TrainState:
    """Fresh networks and optimizers, a function of `config` only.

    Raises ValueError for unusable networks, BadInput for a path length that the family has not.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        generator, discriminator = build(config.family, config.network_options(categories=categories))
    if config.path_length_weight and not isinstance(generator, StyledGenerator):
        raise BadInput(
            f"path_length_weight is {config.path_length_weight}; {config.family} has no styles, leave it at 0"
        )
    for network in (generator, discriminator):
        network.to(device).to(memory_format=torch.channels_last)
    return TrainState(
        generator=generator,
        discriminator=discriminator,
        ema=deepcopy(generator).eval().requires_grad_(False),
        generator_optimizer=_adam(generator, config.generator_rate, config),
        discriminator_optimizer=_adam(discriminator, config.discriminator_rate, config),
    )


def _adam(network: nn.Module, rate: float, config: TrainConfig) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), lr=rate, betas=config.adam_betas, fused=True)


def fit(
    state: TrainState,
    photos: PhotoSet,
    config: TrainConfig,
    *,
    device: torch.device,
    should_stop: Callable[[], bool],
    on_step: Callable[[], None],
    on_report: Callable[[Losses], None],
    on_checkpoint: Callable[[], None],
) -> None:
    """Trains until `should_stop()`, which is asked before every step.

    `on_step` follows every step; `on_report`, with the means since the last one, and `on_checkpoint` come at
    the image counts that the config names, wherever the training began.
    """
    sums = torch.zeros(len(fields(Losses)), device=device)
    steps = 0
    while not should_stop():
        rng = step_rng(config.seed, state.images_seen)
        rows = epoch_rows(len(photos), config, state.images_seen)
        sums += train_step(state, photos, rows, config, rng, device)
        steps += 1
        before, state.images_seen = state.images_seen, state.images_seen + config.batch_size
        on_step()
        if before // config.log_every_images != state.images_seen // config.log_every_images:
            on_report(Losses(**dict(zip(_LOSS_NAMES, (sums / steps).tolist(), strict=True))))
            sums.zero_()
            steps = 0
        if before // config.checkpoint_every_images != state.images_seen // config.checkpoint_every_images:
            on_checkpoint()


_LOSS_NAMES = [each.name for each in fields(Losses)]


def train_step(
    state: TrainState,
    photos: PhotoSet,
    rows: Tensor,
    config: TrainConfig,
    rng: torch.Generator,
    device: torch.device,
) -> Tensor:
    """One discriminator and one generator update on the photos `rows` (B,) int64.

    Returns the four `Losses` of the step as (4,) float32 on `device`.
    """
    real = flip(from_uint8(photos.images[rows]), rng).to(device)
    colour = photos.colour[rows].clone()
    colour[torch.rand(len(rows), generator=rng) < config.colour_dropout] = 0
    conditions = {"category": photos.category[rows].to(device), "colour": colour.to(device)}
    latents = [
        torch.randn((len(rows), state.generator.latent_size), generator=rng).to(device) for _ in range(2)
    ]
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16")
    loss = LOSSES[config.loss]
    step = state.images_seen // config.batch_size

    state.discriminator.requires_grad_(True)
    with autocast:
        with torch.no_grad():
            generated = state.generator.forward_in_training(latents[0], conditions, rng)
        pictures = torch.cat([augment(real, rng), augment(generated, rng)])
        real_logits, generated_logits = state.discriminator(pictures, _twice(conditions)).chunk(2)
        discriminator_loss = loss.discriminator(real_logits, generated_logits)
    if step % config.penalty_every_steps == 0:
        for penalty in _penalties(state.discriminator, pictures, conditions, config, rng):
            discriminator_loss = discriminator_loss + config.penalty_every_steps * penalty
    _update(state.discriminator_optimizer, discriminator_loss)

    state.discriminator.requires_grad_(False)
    with autocast:
        generated = state.generator.forward_in_training(latents[1], conditions, rng)
        shown = augment(generated, rng)
        if loss.paired:
            pairs = torch.cat([augment(real, rng), shown])
            generator_loss = loss.generator(*state.discriminator(pairs, _twice(conditions)).chunk(2))
        else:
            generator_loss = loss.generator(state.discriminator(shown, conditions))
    weight = config.path_length_weight * config.path_length_every_steps
    if weight and step % config.path_length_every_steps == 0 and isinstance(state.generator, StyledGenerator):
        generator_loss = generator_loss + weight * _path_length(state.generator, latents[1], conditions, rng)
    _update(state.generator_optimizer, generator_loss)

    # Early on the average follows more closely, or it would long remember the noise that training began with.
    half_life = min(config.ema_half_life_images, 0.05 * state.images_seen + 1)
    update_ema(state.ema, state.generator, batch_size=len(rows), half_life_images=half_life)
    losses = (generator_loss, discriminator_loss, real_logits.mean(), generated_logits.mean())
    return torch.stack([loss.detach().float() for loss in losses])


def _twice(conditions: Conditions) -> Conditions:
    return {name: torch.cat([value, value]) for name, value in conditions.items()}


def _penalties(
    discriminator: nn.Module,
    pictures: Tensor,
    conditions: Conditions,
    config: TrainConfig,
    rng: torch.Generator,
) -> Iterator[Tensor]:
    """The gradient penalties of a training that has any, each times its weight, as scalars.

    `pictures` are the B real ones, then B generated ones.

    They join the loss of a step instead of making a step of their own, so the rates and betas of Adam need
    none of the corrections of Karras et al. 2020, appendix B, whose laziness this is. In float32: squares of
    gradients have a range of their own.
    """
    real, generated = pictures.chunk(2)
    if config.r1_gamma:
        yield config.r1_gamma * r1_penalty(*_watched(discriminator, real, conditions))
    if config.r2_gamma:
        yield config.r2_gamma * r2_penalty(*_watched(discriminator, generated, conditions))
    if config.loss == "wasserstein" and config.wgan_lambda:
        mixed = mix(real, generated, torch.rand(len(real), generator=rng).to(real.device))
        yield config.wgan_lambda * wgan_penalty(*_watched(discriminator, mixed, conditions))


def _watched(discriminator: nn.Module, images: Tensor, conditions: Conditions) -> tuple[Tensor, Tensor]:
    """The images, now requiring gradients, and their logits."""
    watched = images.detach().float().requires_grad_(True)
    return watched, discriminator(watched, conditions)


def _path_length(
    generator: StyledGenerator, latents: Tensor, conditions: Conditions, rng: torch.Generator
) -> Tensor:
    """The path length penalty, on half of the batch, and one step of the running mean.

    In float32 as the other penalties. Half a batch is what Karras et al. 2020, appendix B, spend on it.
    """
    count = (len(latents) + 1) // 2
    images, styles = generator.forward_with_styles(
        latents[:count], {name: value[:count] for name, value in conditions.items()}
    )
    directions = torch.randn(images.shape, generator=rng).to(images.device) / images.shape[2]
    lengths = path_lengths(images, styles, directions)
    generator.mean_path_length.lerp_(lengths.detach().mean(), PATH_LENGTH_DECAY)
    return path_length_penalty(lengths, generator.mean_path_length.clone())


def _update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def step_rng(seed: int, images_seen: int) -> torch.Generator:
    """The random numbers of the step that begins after `images_seen` images; on the CPU for every device."""
    digest = sha256(f"{seed}\x1f{images_seen}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)


def epoch_rows(photos: int, config: TrainConfig, images_seen: int) -> Tensor:
    """Row numbers (B,) int64 of the next batch: every photo once an epoch, in an order of the epoch's own."""
    rows: list[int] = []
    position = images_seen
    while len(rows) < config.batch_size:
        epoch, offset = divmod(position, photos)
        order = torch.randperm(photos, generator=step_rng(config.seed, -1 - epoch))
        taken = order[offset : offset + config.batch_size - len(rows)].tolist()
        rows += taken
        position += len(taken)
    return torch.tensor(rows)


def flip(images: Tensor, rng: torch.Generator) -> Tensor:
    """Mirrors about half of the pictures (B, 3, H, W) left to right."""
    mirrored = torch.rand(len(images), generator=rng) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)
