"""Adversarial training: one readable loop with explicit state.

Every random number of a step comes from a generator seeded by (seed, images seen), so a resumed training
needs no random state and ends with the same weights as an uninterrupted one: bit for bit on a CPU, with as
many threads.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields
from hashlib import sha256

import torch
from torch import Tensor, nn

from toygan.data.augment import Augmentation, draw_augmentation
from toygan.data.photos import PhotoSet
from toygan.errors import BadInput
from toygan.images import from_uint8
from toygan.models import build
from toygan.models.layers import (
    ConditionalDiscriminator,
    ConditionalGenerator,
    Conditions,
    Judgement,
    PretrainedDiscriminator,
    StyledGenerator,
    StyleEncodingGenerator,
)
from toygan.training.config import TrainConfig
from toygan.training.ema import update_ema
from toygan.training.losses import (
    LOSSES,
    AdversarialLoss,
    feature_matching_loss,
    kl_divergence,
    mix,
    path_length_penalty,
    path_lengths,
    r1_penalty,
    r2_penalty,
    reconstruction_loss,
    wgan_penalty,
)
from toygan.training.recogniser import Recogniser, semantic_loss

PATH_LENGTH_DECAY = 0.01  # share of the newest mean in the running one: Karras et al. 2020, appendix B
RECOGNISER_RATE = 1e-3


@dataclass(kw_only=True)
class TrainState:
    """Everything that `fit` changes."""

    generator: ConditionalGenerator
    discriminator: ConditionalDiscriminator
    ema: ConditionalGenerator  # of the generator; what is kept in the end
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    recogniser: Recogniser | None = None  # where semantic consistency is asked for
    recogniser_optimizer: torch.optim.Optimizer | None = None
    images_seen: int = 0

    @property
    def modules(self) -> dict[str, nn.Module]:
        modules = {"generator": self.generator, "discriminator": self.discriminator, "ema": self.ema}
        return modules if self.recogniser is None else modules | {"recogniser": self.recogniser}

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        optimizers = {
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }
        if self.recogniser_optimizer is not None:
            optimizers["recogniser_optimizer"] = self.recogniser_optimizer
        return optimizers


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Means over some steps."""

    generator: float
    discriminator: float
    real_logit: float
    generated_logit: float


def start(config: TrainConfig, *, categories: int, device: torch.device, text_size: int = 0) -> TrainState:
    """Fresh networks and optimizers, a function of the arguments only.

    Raises ValueError for unusable networks, BadInput for a loss that the family has no use for.
    """
    options = config.network_options(categories=categories, text_size=text_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        generator, discriminator = build(config.family, options)
        recogniser = Recogniser(categories=categories) if config.semantic_weight else None
    _check_losses(config, generator)
    if isinstance(discriminator, PretrainedDiscriminator):
        discriminator.load_pretrained()
    for network in (generator, discriminator, recogniser):
        if network is not None:
            network.to(device).to(memory_format=torch.channels_last)
    return TrainState(
        generator=generator,
        discriminator=discriminator,
        ema=deepcopy(generator).eval().requires_grad_(False),
        generator_optimizer=_adam(generator, config.generator_rate, config),
        discriminator_optimizer=_adam(discriminator, config.discriminator_rate, config),
        recogniser=recogniser,
        recogniser_optimizer=None if recogniser is None else _adam(recogniser, RECOGNISER_RATE, config),
    )


def _check_losses(config: TrainConfig, generator: ConditionalGenerator) -> None:
    if config.path_length_weight and not isinstance(generator, StyledGenerator):
        raise BadInput(
            f"path_length_weight is {config.path_length_weight}; {config.family} has no styles, leave it at 0"
        )
    if config.kl_weight and not isinstance(generator, StyleEncodingGenerator):
        raise BadInput(f"kl_weight is {config.kl_weight}; {config.family} encodes no style, leave it at 0")


def _adam(network: nn.Module, rate: float, config: TrainConfig) -> torch.optim.Optimizer:
    parameters = [each for each in network.parameters() if each.requires_grad]
    return torch.optim.Adam(parameters, lr=rate, betas=config.adam_betas, fused=True)


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
        batch = draw_batch(photos, rows, config, state.generator.latent_size, rng).to(device)
        sums += train_step(state, batch, config, rng)
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


@dataclass(frozen=True, kw_only=True)
class Batch:
    """All that a step is made from: B photos with what is known of them, and random numbers."""

    real: Tensor  # (B, 3, R, R) float32 in [-1, 1]
    conditions: Conditions
    latents: tuple[Tensor, Tensor]  # of the discriminator's and of the generator's update
    augmentations: tuple[Augmentation, Augmentation, Augmentation]  # of the photos, and of either update

    def to(self, device: torch.device) -> "Batch":
        """The same on `device`, but for the augmentations, which are applied from the CPU."""
        return Batch(
            real=self.real.to(device),
            conditions={name: value.to(device) for name, value in self.conditions.items()},
            latents=(self.latents[0].to(device), self.latents[1].to(device)),
            augmentations=self.augmentations,
        )


def draw_batch(
    photos: PhotoSet, rows: Tensor, config: TrainConfig, latent_size: int, rng: torch.Generator
) -> Batch:
    """The photos `rows` (B,) int64, about half of them mirrored, with some conditions withheld."""
    count, resolution = len(rows), photos.images.shape[2]
    mirrored = torch.rand(count, generator=rng) < 0.5
    conditions = photos.conditions(rows)
    for name, dropout in (("colour", config.colour_dropout), ("text", config.text_dropout)):
        if name in conditions:
            kept = torch.rand((count, 1), generator=rng) >= dropout
            conditions[name] = conditions[name] * kept
    if photos.image_condition is not None:
        conditions[photos.image_condition] = mirror(conditions[photos.image_condition], mirrored)
    first, second = (torch.randn((count, latent_size), generator=rng) for _ in range(2))
    of_real, of_first, of_second = (draw_augmentation(count, resolution, rng) for _ in range(3))
    return Batch(
        real=mirror(from_uint8(photos.images[rows]), mirrored),
        conditions=conditions,
        latents=(first, second),
        augmentations=(of_real, of_first, of_second),
    )


def train_step(state: TrainState, batch: Batch, config: TrainConfig, rng: torch.Generator) -> Tensor:
    """One discriminator and one generator update.

    Returns the four `Losses` of the step as (4,) float32 on the batch's device.
    """
    autocast = torch.autocast(
        batch.real.device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16"
    )
    step = state.images_seen // config.batch_size
    discriminator_losses = _update_discriminator(state, batch, config, rng, autocast, step)
    if state.recogniser is not None and state.recogniser_optimizer is not None:
        with autocast:
            recogniser_loss = semantic_loss(state.recogniser(batch.real), batch.conditions)
        _update(state.recogniser_optimizer, recogniser_loss)
    generator_loss = _update_generator(state, batch, config, rng, autocast, step)
    # Early on the average follows more closely, or it would long remember the noise that training began with.
    half_life = min(config.ema_half_life_images, 0.05 * state.images_seen + 1)
    update_ema(state.ema, state.generator, batch_size=config.batch_size, half_life_images=half_life)
    return torch.stack([loss.detach().float() for loss in (generator_loss, *discriminator_losses)])


def _update_discriminator(
    state: TrainState,
    batch: Batch,
    config: TrainConfig,
    rng: torch.Generator,
    autocast: torch.autocast,
    step: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the loss and the mean logits of real and of generated pictures."""
    loss = LOSSES[config.loss]
    state.discriminator.requires_grad_(True)
    with autocast:
        with torch.no_grad():
            latents, _ = _latents(state.generator, batch.latents[0], batch.real, config)
            generated = state.generator.forward_in_training(latents, batch.conditions, rng)
        real, real_told = _show(batch.real, batch.conditions, batch.augmentations[0])
        fake, fake_told = _show(generated, batch.conditions, batch.augmentations[1])
        real_logits, fake_logits = _judge_both(state.discriminator, (real, real_told), (fake, fake_told))
        total = _mean([loss.discriminator(*logits) for logits in zip(real_logits, fake_logits, strict=True)])
    objective = total
    if step % config.penalty_every_steps == 0:
        for penalty in _penalties(state.discriminator, (real, real_told), (fake, fake_told), config, rng):
            objective = objective + config.penalty_every_steps * penalty
    _update(state.discriminator_optimizer, objective)
    return (
        objective,
        _mean([each.mean() for each in real_logits]),
        _mean([each.mean() for each in fake_logits]),
    )


def _update_generator(
    state: TrainState,
    batch: Batch,
    config: TrainConfig,
    rng: torch.Generator,
    autocast: torch.autocast,
    step: int,
) -> Tensor:
    """Returns the loss."""
    loss = LOSSES[config.loss]
    state.discriminator.requires_grad_(False)
    with autocast:
        latents, divergence = _latents(state.generator, batch.latents[1], batch.real, config)
        generated = state.generator.forward_in_training(latents, batch.conditions, rng)
        shown, told = _show(generated, batch.conditions, batch.augmentations[2])
        judged = state.discriminator.judge(shown, told)
        total = _adversarial(state, batch, loss, judged, config) + config.kl_weight * divergence
        if state.recogniser is not None:
            recognised = state.recogniser.requires_grad_(False)(generated)
            total = total + config.semantic_weight * semantic_loss(recognised, batch.conditions)
            state.recogniser.requires_grad_(True)
        if config.l1_weight:
            total = total + config.l1_weight * reconstruction_loss(generated, batch.real)
    weight = config.path_length_weight * config.path_length_every_steps
    if weight and step % config.path_length_every_steps == 0 and isinstance(state.generator, StyledGenerator):
        total = total + weight * _path_length(state.generator, latents, batch.conditions, rng)
    _update(state.generator_optimizer, total)
    return total


def _adversarial(
    state: TrainState, batch: Batch, loss: AdversarialLoss, judged: Judgement, config: TrainConfig
) -> Tensor:
    """What the generator is told by the discriminator. The photos are judged again where they are needed:
    moved like the generated pictures, to be compared with them feature by feature."""
    if not loss.paired and not config.feature_matching_weight:
        return _mean([loss.generator(each) for each in judged.logits])
    with torch.no_grad():
        wanted = state.discriminator.judge(*_show(batch.real, batch.conditions, batch.augmentations[2]))
    if loss.paired:
        pairs = zip(wanted.logits, judged.logits, strict=True)
        total = _mean([loss.generator(real, generated) for real, generated in pairs])
    else:
        total = _mean([loss.generator(each) for each in judged.logits])
    if config.feature_matching_weight:
        total = total + config.feature_matching_weight * feature_matching_loss(
            wanted.features, judged.features
        )
    return total


def _latents(
    generator: ConditionalGenerator, latents: Tensor, real: Tensor, config: TrainConfig
) -> tuple[Tensor, Tensor]:
    """The latents of a step, read off the photos where styles are encoded, and their KL divergence."""
    if not (config.kl_weight and isinstance(generator, StyleEncodingGenerator)):
        return latents, latents.new_zeros(())
    mean, log_variance = (each.float() for each in generator.encode_style(real))
    return mean + (log_variance / 2).exp() * latents, kl_divergence(mean, log_variance)


def _show(images: Tensor, conditions: Conditions, augmentation: Augmentation) -> tuple[Tensor, Conditions]:
    """What the discriminator is shown, and told."""
    return augmentation.of_pictures(images), augmentation.of_conditions(conditions)


def _judge_both(
    discriminator: ConditionalDiscriminator,
    real: tuple[Tensor, Conditions],
    generated: tuple[Tensor, Conditions],
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The logits of photos and of generated pictures: in one pass, which is faster, where it may be."""
    if discriminator.has_batch_statistics:
        return discriminator.judge(*real).logits, discriminator.judge(*generated).logits
    judged = discriminator.judge(torch.cat([real[0], generated[0]]), _joined(real[1], generated[1])).logits
    real_logits, generated_logits = zip(*(each.chunk(2) for each in judged), strict=True)
    return real_logits, generated_logits


def _joined(first: Conditions, second: Conditions) -> Conditions:
    return {name: torch.cat([value, second[name]]) for name, value in first.items()}


def _mean(losses: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(losses)).mean()


def _penalties(
    discriminator: ConditionalDiscriminator,
    real: tuple[Tensor, Conditions],
    generated: tuple[Tensor, Conditions],
    config: TrainConfig,
    rng: torch.Generator,
) -> Iterator[Tensor]:
    """The gradient penalties of a training that has any, each times its weight, as scalars.

    They join the loss of a step instead of making a step of their own, so the rates and betas of Adam need
    none of the corrections of Karras et al. 2020, appendix B, whose laziness this is. In float32: squares of
    gradients have a range of their own.
    """
    if config.r1_gamma:
        yield config.r1_gamma * r1_penalty(*_watched(discriminator, *real))
    if config.r2_gamma:
        yield config.r2_gamma * r2_penalty(*_watched(discriminator, *generated))
    if config.loss == "wasserstein" and config.wgan_lambda:
        (pictures, told), (fake, _) = real, generated
        mixed = mix(pictures, fake, torch.rand(len(fake), generator=rng).to(fake.device))
        yield config.wgan_lambda * wgan_penalty(*_watched(discriminator, mixed, told))


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


def mirror(images: Tensor, mirrored: Tensor) -> Tensor:
    """Turns the pictures (B, ..., W) left to right whose entry in `mirrored` (B,) bool says so."""
    which = mirrored.view(-1, *[1] * (images.ndim - 1))
    return torch.where(which, images.flip(-1), images)
