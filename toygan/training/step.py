"""One training step: it updates the discriminator, then the companions, then the generator."""

import torch
from torch import Tensor

from toygan.models.layers import ConditionalDiscriminator, Conditions, DiscriminatorOutput
from toygan.training.batches import Batch
from toygan.training.config import TrainConfig
from toygan.training.ema import update_ema
from toygan.training.losses import LOSSES
from toygan.training.objectives import (
    DiscriminatorInputs,
    GeneratorInputs,
    Shown,
    discriminator_objectives,
    generator_objectives,
    weighted_sum,
)
from toygan.training.sample import generate, make_latents, with_blended_texts
from toygan.training.state import TrainState

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def train_step(state: TrainState, batch: Batch, config: TrainConfig, rng: torch.Generator) -> Tensor:
    """Updates all networks once, in the precision of `config`, which must not be `auto`.

    Returns the four `Losses` of the step as (4,) float32 on the batch's device.
    """
    precision = config.optimizer.precision
    autocast = torch.autocast(batch.real.device.type, dtype=_DTYPES[precision], enabled=precision != "fp32")
    batch = with_blended_texts(state.generator, batch, config)
    discriminator_losses = _update_discriminator(state, batch, config, rng, autocast)
    for name, companion in state.companions.items():
        with autocast:
            loss = companion.loss(companion.network, batch)
        _update(state, f"{name}_optimizer", loss)
    generator_loss = _update_generator(state, batch, config, rng, autocast)
    # At the beginning the half-life is shorter, so that the random first weights soon have no share in the
    # average.
    half_life = min(config.optimizer.ema_half_life_images, 0.05 * state.images_seen + 1)
    update_ema(state.ema, state.generator, batch_size=config.data.batch_size, half_life_images=half_life)
    return torch.stack([loss.detach().float() for loss in (generator_loss, *discriminator_losses)])


def _update_discriminator(
    state: TrainState, batch: Batch, config: TrainConfig, rng: torch.Generator, autocast: torch.autocast
) -> tuple[Tensor, Tensor, Tensor]:
    """Updates the discriminator. Returns its loss and the mean logits of real and of generated pictures."""
    step = state.images_seen // config.data.batch_size
    state.discriminator.requires_grad_(True)
    with autocast:
        with torch.no_grad():
            latents = make_latents(state.generator, batch.latents[0], batch, config)
            generated, _ = generate(state.generator, latents, batch, rng)
        real = Shown.of(batch.real, batch.conditions, batch.augmentations[0])
        fake = Shown.of(generated, batch.conditions, batch.augmentations[1])
        real_logits, generated_logits = _score_both(state.discriminator, real, fake)
    inputs = DiscriminatorInputs(
        discriminator=state.discriminator,
        real=real,
        generated=fake,
        real_logits=real_logits,
        generated_logits=generated_logits,
    )
    objectives = discriminator_objectives(config.objective)
    loss = weighted_sum(objectives, inputs, step=step, autocast=autocast)
    _update(state, "discriminator_optimizer", loss)
    if state.augmentation is not None:
        signs = state.distributed.mean(_mean_sign(config, real_logits, generated_logits))
        state.augmentation.observe(signs.item(), images=config.data.batch_size, step=step)
    means = [
        torch.stack([each.mean() for each in logits]).mean() for logits in (real_logits, generated_logits)
    ]
    return loss, means[0], means[1]


def _mean_sign(
    config: TrainConfig, real_logits: tuple[Tensor, ...], generated_logits: tuple[Tensor, ...]
) -> Tensor:
    """Returns the mean sign of the scores of photos, by which the augmentation adapts, a scalar.

    A paired loss does not change if a number is added to all logits, so there the sign of a score means
    nothing. It is the sign of its difference to the score of the generated picture.
    """
    scores = DiscriminatorOutput(logits=real_logits).score.detach()
    if LOSSES[config.objective.loss].paired:
        scores = scores - DiscriminatorOutput(logits=generated_logits).score.detach()
    return scores.sign().mean()


def _update_generator(
    state: TrainState, batch: Batch, config: TrainConfig, rng: torch.Generator, autocast: torch.autocast
) -> Tensor:
    """Updates the generator and returns its loss."""
    state.discriminator.requires_grad_(False)
    with autocast:
        latents = make_latents(state.generator, batch.latents[1], batch, config)
        generated, layout_loss = generate(state.generator, latents, batch, rng)
    inputs = GeneratorInputs(
        batch=batch,
        latents=latents,
        generated=generated,
        layout_loss=layout_loss,
        discriminator=state.discriminator,
        rng=rng,
    )
    objectives = generator_objectives(config.objective, state)
    step = state.images_seen // config.data.batch_size
    loss = weighted_sum(objectives, inputs, step=step, autocast=autocast)
    _update(state, "generator_optimizer", loss)
    return loss


def _score_both(
    discriminator: ConditionalDiscriminator, real: Shown, generated: Shown
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Returns the logits of photos and of generated pictures, for each head.

    A common pass for both is faster. With batch statistics, each needs a separate pass.
    """
    if discriminator.has_batch_statistics:
        first, second = (
            discriminator.forward_with_features(each.images, each.conditions) for each in (real, generated)
        )
        return first.logits, second.logits
    logits = discriminator.forward_with_features(
        torch.cat([real.images, generated.images]), _joined(real.conditions, generated.conditions)
    ).logits
    real_logits, generated_logits = zip(*(each.chunk(2) for each in logits), strict=True)
    return real_logits, generated_logits


def _joined(first: Conditions, second: Conditions) -> Conditions:
    return {name: torch.cat([value, second[name]]) for name, value in first.items()}


def _update(state: TrainState, name: str, loss: Tensor) -> None:
    """Takes one step of the optimizer `name` on the mean gradients of all processes."""
    optimizer, scaler = state.optimizers[name], state.scalers[name]
    optimizer.zero_grad()
    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    state.distributed.average_gradients(optimizer)
    scaler.step(optimizer)
    scaler.update()
