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
    """Updates the discriminator and the generator once, in the precision of `config`, which must not be auto.

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
            layout_loss = drawing_loss(state.layout_predictor(batch.real), batch.conditions)
        _update(state, "layout_predictor_optimizer", layout_loss)
    generator_loss = _update_generator(state, batch, config, rng, autocast, step)
    # A shorter half-life in the beginning: the average would long keep the random first weights otherwise.
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
            sample = _latents(state.generator, batch.latents[0], batch, config)
            generated, _ = _generate(state.generator, sample, batch, rng)
        real, real_conditions = _augmented(batch.real, batch.conditions, batch.augmentations[0])
        fake, fake_conditions = _augmented(generated, batch.conditions, batch.augmentations[1])
        real_logits, fake_logits = _score_both(
            state.discriminator, (real, real_conditions), (fake, fake_conditions)
        )
        total = _mean([loss.discriminator(*logits) for logits in zip(real_logits, fake_logits, strict=True)])
    objective = total
    if step % config.penalty_every_steps == 0:
        penalties = _penalties(
            state.discriminator, (real, real_conditions), (fake, fake_conditions), config, rng
        )
        for penalty in penalties:
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
        sample = _latents(state.generator, batch.latents[1], batch, config)
        generated, layout_loss = _generate(state.generator, sample, batch, rng)
        total = config.kl_weight * sample.divergence + config.layout_weight * layout_loss
        if config.adversarial:
            pictures, conditions = _augmented(generated, batch.conditions, batch.augmentations[2])
            output = state.discriminator.forward_with_features(pictures, conditions)
            total = total + _adversarial(state, batch, loss, output, sample.compared, config)
        if state.auxiliary_classifier is not None:
            recognised = state.auxiliary_classifier.requires_grad_(False)(generated)
            total = total + config.semantic_weight * semantic_loss(recognised, batch.conditions)
            state.auxiliary_classifier.requires_grad_(True)
        if config.colour_weight:
            known = batch.conditions["colour"][:, 3] > 0
            colours = product_colour_loss(generated, batch.real, known)
            total = total + config.colour_weight * colours
        copies, originals = generated[: sample.compared], batch.real[: sample.compared]
        if config.l1_weight:
            total = total + config.l1_weight * reconstruction_loss(copies, originals)
        if state.perceptual is not None:
            perceptual = _perceptual(state.perceptual, copies, originals, config)
            total = total + config.perceptual_weight * perceptual
    weight = config.path_length_weight * config.path_length_every_steps
    if weight and step % config.path_length_every_steps == 0 and isinstance(state.generator, StyledGenerator):
        total = total + weight * _path_length(state.generator, sample.latents, batch.conditions, rng)
    _update(state, "generator_optimizer", total)
    return total


def _perceptual(backbone: "Backbone", generated: Tensor, real: Tensor, config: TrainConfig) -> Tensor:
    with torch.no_grad():
        target = backbone.look(real, side=config.perceptual_side)
    compare = content_loss if config.perceptual_distance == "values" else perceptual_loss
    return compare(target, backbone.look(generated, side=config.perceptual_side))


def _adversarial(
    state: TrainState,
    batch: Batch,
    loss: AdversarialLoss,
    output: DiscriminatorOutput,
    compared: int,
    config: TrainConfig,
) -> Tensor:
    """Returns the adversarial loss of the generator, plus feature matching with the first `compared` photos.

    Paired losses and feature matching need the discriminator's output for the photos, too. The photos then
    get the same augmentation as the generated pictures.
    """
    if not loss.paired and not config.feature_matching_weight:
        return _mean([loss.generator(each) for each in output.logits])
    with torch.no_grad():
        target = state.discriminator.forward_with_features(
            *_augmented(batch.real, batch.conditions, batch.augmentations[2])
        )
    if loss.paired:
        pairs = zip(target.logits, output.logits, strict=True)
        total = _mean([loss.generator(real, generated) for real, generated in pairs])
    else:
        total = _mean([loss.generator(each) for each in output.logits])
    if config.feature_matching_weight:
        total = total + config.feature_matching_weight * feature_matching_loss(
            [each[:compared] for each in target.features], [each[:compared] for each in output.features]
        )
    return total


class _Sample(NamedTuple):
    latents: Tensor  # (B, latent_size) float32
    compared: int  # number of pictures, from the first, that are compared with their photos
    divergence: Tensor  # () float32, of the latents that the style encoder made


def _generate(
    generator: ConditionalGenerator, sample: _Sample, batch: Batch, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Returns the pictures and the layout loss, a scalar; 0 for generators that generate no layout."""
    if isinstance(generator, LayoutDrawingGenerator):
        return generator.forward_with_layouts(sample.latents, batch.conditions, sample.compared)
    images = generator.forward_in_training(sample.latents, batch.conditions, rng)
    return images, images.new_zeros(())


def _reads_styles(generator: ConditionalGenerator, config: TrainConfig) -> TypeGuard[StyleEncodingGenerator]:
    return config.kl_weight > 0 and isinstance(generator, StyleEncodingGenerator)


def _compared(batch: Batch, config: TrainConfig) -> int:
    """Returns the number of pictures of a batch with the latents or layouts of their photos, at least 1."""
    return max(1, len(batch.real) - round(config.prior_share * len(batch.real)))


def _with_blended_texts(generator: ConditionalGenerator, batch: Batch, config: TrainConfig) -> Batch:
    """Gives blended texts, as generation uses them, to the `prior_share` of a batch.

    The photos of these rows get the same texts, so that the discriminator cannot tell photos and pictures
    apart by the text.
    """
    has_prior = _reads_styles(generator, config) or isinstance(generator, LayoutDrawingGenerator)
    if batch.blended_text is None or not has_prior:
        return batch
    count = _compared(batch, config)
    text = torch.cat([batch.conditions["text"][:count], batch.blended_text[count:]])
    return replace(batch, conditions={**batch.conditions, "text": text})


def _latents(generator: ConditionalGenerator, latents: Tensor, batch: Batch, config: TrainConfig) -> _Sample:
    """Returns the latents of a step. With a style encoder, those of all but `prior_share` encode the photos.

    The discriminator also scores the pictures from random latents, as in Larsen et al. 2016, algorithm 1.
    """
    count = _compared(batch, config)
    if not _reads_styles(generator, config):
        return _Sample(latents, count, latents.new_zeros(()))
    mean, log_variance = (each.float() for each in generator.encode_style(batch.real[:count]))
    encoded = mean + (log_variance / 2).exp() * latents[:count]
    return _Sample(torch.cat([encoded, latents[count:]]), count, kl_divergence(mean, log_variance))


def _augmented(
    images: Tensor, conditions: Conditions, augmentation: Augmentation
) -> tuple[Tensor, Conditions]:
    """Returns the inputs of the discriminator."""
    return augmentation.of_pictures(images), augmentation.of_conditions(conditions)


def _score_both(
    discriminator: ConditionalDiscriminator,
    real: tuple[Tensor, Conditions],
    generated: tuple[Tensor, Conditions],
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Returns the logits of photos and of generated pictures.

    One pass for both is faster, but batch statistics need a pass for each.
    """
    if discriminator.has_batch_statistics:
        return discriminator.forward_with_features(*real).logits, discriminator.forward_with_features(
            *generated
        ).logits
    logits = discriminator.forward_with_features(
        torch.cat([real[0], generated[0]]), _joined(real[1], generated[1])
    ).logits
    real_logits, generated_logits = zip(*(each.chunk(2) for each in logits), strict=True)
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
    """Yields each gradient penalty of the training times its weight, a scalar.

    As in Karras et al. 2020, appendix B, penalties are left out of most steps (lazy regularisation). Here
    they are added to the loss of a step instead of getting a step of their own, so Adam's learning rate and
    betas need none of the paper's corrections. They are computed in float32, because squared gradients do not
    fit the range of float16.
    """
    if config.r1_gamma:
        yield config.r1_gamma * r1_penalty(*_with_gradients(discriminator, *real))
    if config.r2_gamma:
        yield config.r2_gamma * r2_penalty(*_with_gradients(discriminator, *generated))
    if config.loss == "wasserstein" and config.wgan_lambda:
        (pictures, conditions), (fake, _) = real, generated
        mixed = mix(pictures, fake, torch.rand(len(fake), generator=rng).to(fake.device))
        yield config.wgan_lambda * wgan_penalty(*_with_gradients(discriminator, mixed, conditions))


def _with_gradients(
    discriminator: nn.Module, images: Tensor, conditions: Conditions
) -> tuple[Tensor, Tensor]:
    """Returns the images, which now require gradients, and their logits."""
    inputs = images.detach().float().requires_grad_(True)
    return inputs, discriminator(inputs, conditions)


def _path_length(
    generator: StyledGenerator, latents: Tensor, conditions: Conditions, rng: torch.Generator
) -> Tensor:
    """Returns the path length penalty on half of the batch, and updates the running mean of the lengths.

    Half a batch as in Karras et al. 2020, appendix B; float32 as the other penalties.
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
    """Takes one step of the optimizer `name` on the mean gradients of all processes."""
    optimizer, scaler = state.optimizers[name], state.scalers[name]
    optimizer.zero_grad()
    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    state.distributed.average_gradients(optimizer)
    scaler.step(optimizer)
    scaler.update()
