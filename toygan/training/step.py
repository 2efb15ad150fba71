"""One training step: discriminator, optional auxiliary classifier and layout predictor, then generator."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

import torch
from torch import Tensor, nn

from toygan.data.augment import Augmentation
from toygan.models.layers import (
    ConditionalDiscriminator,
    ConditionalGenerator,
    Conditions,
    DiscriminatorOutput,
    LayoutDrawingGenerator,
    StyledGenerator,
    StyleEncodingGenerator,
)
from toygan.training.auxiliary_classifier import semantic_loss
from toygan.training.batches import Batch
from toygan.training.config import TrainConfig
from toygan.training.ema import update_ema
from toygan.training.layout_predictor import drawing_loss
from toygan.training.losses import (
    LOSSES,
    AdversarialLoss,
    content_loss,
    feature_matching_loss,
    kl_divergence,
    mix,
    path_length_penalty,
    path_lengths,
    perceptual_loss,
    product_colour_loss,
    r1_penalty,
    r2_penalty,
    reconstruction_loss,
    wgan_penalty,
)
from toygan.training.state import TrainState

if TYPE_CHECKING:
    from toygan.models.backbone import Backbone

PATH_LENGTH_DECAY = 0.01  # share of the newest mean in the running one: Karras et al. 2020, appendix B
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def train_step(state: TrainState, batch: Batch, config: TrainConfig, rng: torch.Generator) -> Tensor:
    """One discriminator and one generator update, in the precision of `config`, which must not be `auto`.

    Returns the four `Losses` of the step as (4,) float32 on the batch's device.
    """
    autocast = torch.autocast(
        batch.real.device.type, dtype=_DTYPES[config.precision], enabled=config.precision != "fp32"
    )
    batch = _with_blended_texts(state.generator, batch, config)
    step = state.images_seen // config.batch_size
    nothing = torch.zeros((), device=batch.real.device)
    discriminator_losses = (nothing, nothing, nothing)
    if config.adversarial:
        discriminator_losses = _update_discriminator(state, batch, config, rng, autocast, step)
    if state.auxiliary_classifier is not None:
        with autocast:
            auxiliary_classifier_loss = semantic_loss(
                state.auxiliary_classifier(batch.real), batch.conditions
            )
        _update(state, "auxiliary_classifier_optimizer", auxiliary_classifier_loss)
    if state.layout_predictor is not None:
        with autocast:
            lacking = drawing_loss(state.layout_predictor(batch.real), batch.conditions)
        _update(state, "layout_predictor_optimizer", lacking)
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
            drawn = _latents(state.generator, batch.latents[0], batch, config)
            generated, _ = _generate(state.generator, drawn, batch, rng)
        real, real_told = _show(batch.real, batch.conditions, batch.augmentations[0])
        fake, fake_told = _show(generated, batch.conditions, batch.augmentations[1])
        real_logits, fake_logits = _judge_both(state.discriminator, (real, real_told), (fake, fake_told))
        total = _mean([loss.discriminator(*logits) for logits in zip(real_logits, fake_logits, strict=True)])
    objective = total
    if step % config.penalty_every_steps == 0:
        for penalty in _penalties(state.discriminator, (real, real_told), (fake, fake_told), config, rng):
            objective = objective + config.penalty_every_steps * penalty
    _update(state, "discriminator_optimizer", objective)
    if state.augmentation is not None:
        signs = state.distributed.mean(DiscriminatorOutput(logits=real_logits).score.detach().sign().mean())
        state.augmentation.observe(signs.item(), images=config.batch_size, step=step)
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
        drawn = _latents(state.generator, batch.latents[1], batch, config)
        generated, lacking = _generate(state.generator, drawn, batch, rng)
        total = config.kl_weight * drawn.divergence + config.layout_weight * lacking
        if config.adversarial:
            shown, told = _show(generated, batch.conditions, batch.augmentations[2])
            judged = state.discriminator.forward_with_features(shown, told)
            total = total + _adversarial(state, batch, loss, judged, drawn.compared, config)
        if state.auxiliary_classifier is not None:
            recognised = state.auxiliary_classifier.requires_grad_(False)(generated)
            total = total + config.semantic_weight * semantic_loss(recognised, batch.conditions)
            state.auxiliary_classifier.requires_grad_(True)
        if config.colour_weight:
            known = batch.conditions["colour"][:, 3] > 0
            colours = product_colour_loss(generated, batch.real, known)
            total = total + config.colour_weight * colours
        copies, originals = generated[: drawn.compared], batch.real[: drawn.compared]
        if config.l1_weight:
            total = total + config.l1_weight * reconstruction_loss(copies, originals)
        if state.perceptual is not None:
            seen = _perceptual(state.perceptual, copies, originals, config)
            total = total + config.perceptual_weight * seen
    weight = config.path_length_weight * config.path_length_every_steps
    if weight and step % config.path_length_every_steps == 0 and isinstance(state.generator, StyledGenerator):
        total = total + weight * _path_length(state.generator, drawn.latents, batch.conditions, rng)
    _update(state, "generator_optimizer", total)
    return total


def _perceptual(backbone: "Backbone", generated: Tensor, real: Tensor, config: TrainConfig) -> Tensor:
    with torch.no_grad():
        wanted = backbone.look(real, side=config.perceptual_side)
    compare = content_loss if config.perceptual_distance == "values" else perceptual_loss
    return compare(wanted, backbone.look(generated, side=config.perceptual_side))


def _adversarial(
    state: TrainState,
    batch: Batch,
    loss: AdversarialLoss,
    judged: DiscriminatorOutput,
    compared: int,
    config: TrainConfig,
) -> Tensor:
    """What the generator is told by the discriminator. The photos are judged again where they are needed:
    moved like the generated pictures, the first `compared` of which are held against them feature by feature.
    """
    if not loss.paired and not config.feature_matching_weight:
        return _mean([loss.generator(each) for each in judged.logits])
    with torch.no_grad():
        wanted = state.discriminator.forward_with_features(
            *_show(batch.real, batch.conditions, batch.augmentations[2])
        )
    if loss.paired:
        pairs = zip(wanted.logits, judged.logits, strict=True)
        total = _mean([loss.generator(real, generated) for real, generated in pairs])
    else:
        total = _mean([loss.generator(each) for each in judged.logits])
    if config.feature_matching_weight:
        total = total + config.feature_matching_weight * feature_matching_loss(
            [each[:compared] for each in wanted.features], [each[:compared] for each in judged.features]
        )
    return total


class _Generated(NamedTuple):
    latents: Tensor  # (B, latent_size) float32
    compared: int  # that many of the first pictures are to look as their photos
    divergence: Tensor  # () float32, of the latents that were read off photos


def _generate(
    generator: ConditionalGenerator, drawn: _Generated, batch: Batch, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The pictures, and what layouts of the generator's own lack of the photos', a scalar."""
    if isinstance(generator, LayoutDrawingGenerator):
        return generator.forward_with_layouts(drawn.latents, batch.conditions, drawn.compared)
    images = generator.forward_in_training(drawn.latents, batch.conditions, rng)
    return images, images.new_zeros(())


def _reads_styles(generator: ConditionalGenerator, config: TrainConfig) -> TypeGuard[StyleEncodingGenerator]:
    return config.kl_weight > 0 and isinstance(generator, StyleEncodingGenerator)


def _compared(batch: Batch, config: TrainConfig) -> int:
    """How many of a batch have the latents of their photos, or their layouts."""
    return max(1, len(batch.real) - round(config.prior_share * len(batch.real)))


def _with_blended_texts(generator: ConditionalGenerator, batch: Batch, config: TrainConfig) -> Batch:
    """The pictures that are drawn as generation draws them get texts as generation reads them.

    So do their photos: the discriminator must not tell both apart by their texts.
    """
    has_prior = _reads_styles(generator, config) or isinstance(generator, LayoutDrawingGenerator)
    if batch.blended_text is None or not has_prior:
        return batch
    count = _compared(batch, config)
    text = torch.cat([batch.conditions["text"][:count], batch.blended_text[count:]])
    return replace(batch, conditions={**batch.conditions, "text": text})


def _latents(
    generator: ConditionalGenerator, latents: Tensor, batch: Batch, config: TrainConfig
) -> _Generated:
    """The latents of a step, read off the photos where styles are encoded, but for `prior_share` of them.

    What is drawn from latents that no photo says is judged too, as in Larsen et al. 2016, algorithm 1. Where
    `view_latents` gives some of the latents, the style encoder is not asked for those: Kingma et al. 2014,
    "Semi-supervised Learning with Deep Generative Models", section 3.
    """
    count = _compared(batch, config)
    if not _reads_styles(generator, config):
        return _Generated(latents, count, latents.new_zeros(()))
    mean, log_variance = (each.float() for each in generator.encode_style(batch.real[:count]))
    known = torch.full_like(mean, float("nan"))
    if batch.views is not None:
        size = min(batch.views.shape[1], known.shape[1])
        known[:, :size] = batch.views[:count, :size]
    mean, log_variance = (torch.where(known.isnan(), each, 0.0) for each in (mean, log_variance))
    read = mean + (log_variance / 2).exp() * latents[:count]
    read = torch.where(known.isnan(), read, known)
    return _Generated(torch.cat([read, latents[count:]]), count, kl_divergence(mean, log_variance))


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
        return discriminator.forward_with_features(*real).logits, discriminator.forward_with_features(
            *generated
        ).logits
    judged = discriminator.forward_with_features(
        torch.cat([real[0], generated[0]]), _joined(real[1], generated[1])
    ).logits
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


def _update(state: TrainState, name: str, loss: Tensor) -> None:
    """One step of the optimizer `name`, on the gradients of all processes together."""
    optimizer, scaler = state.optimizers[name], state.scalers[name]
    optimizer.zero_grad()
    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    state.distributed.average_gradients(optimizer)
    scaler.step(optimizer)
    scaler.update()
