"""The generator's part of a training step: latents, pictures and, for some generators, layouts."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from toygan.models.layers import ConditionalGenerator, LayoutPredictingGenerator, StyleEncodingGenerator
from toygan.training.batches import Batch
from toygan.training.config import TrainConfig
from toygan.training.losses import kl_divergence


@dataclass(frozen=True, kw_only=True)
class Latents:
    """The latents of B pictures."""

    values: Tensor  # (B, latent_size) float32
    compared: int  # number of pictures that are compared with their photos; these are the first pictures
    # () float32, the divergence of encoded latents; None if no latents are encoded
    divergence: Tensor | None = None


def generate(
    generator: ConditionalGenerator, latents: Latents, batch: Batch, rng: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Returns the pictures (B, 3, R, R) and the layout loss, a scalar.

    The layout loss is None if the generator predicts no layouts.
    """
    if isinstance(generator, LayoutPredictingGenerator):
        return generator.forward_with_layouts(latents.values, batch.conditions, latents.compared)
    return generator.forward_in_training(latents.values, batch.conditions, rng), None


def make_latents(
    generator: ConditionalGenerator, latents: Tensor, batch: Batch, config: TrainConfig
) -> Latents:
    """Returns the latents of a step.

    With a style encoder and a `kl_weight`, the share `prior_share` of the latents is random, and the others
    encode the photos. Without them, all latents are random.
    The discriminator scores both types of pictures, as in Larsen et al. 2016, algorithm 1.
    """
    count = _compared(batch, config)
    if not (config.objective.kl_weight and isinstance(generator, StyleEncodingGenerator)):
        return Latents(values=latents, compared=count)
    mean, log_variance = (each.float() for each in generator.encode_style(batch.real[:count]))
    encoded = mean + (log_variance / 2).exp() * latents[:count]
    return Latents(
        values=torch.cat([encoded, latents[count:]]),
        compared=count,
        divergence=kl_divergence(mean, log_variance),
    )


def with_blended_texts(generator: ConditionalGenerator, batch: Batch, config: TrainConfig) -> Batch:
    """Replaces the texts of the share `prior_share` of a batch by blended texts, which generation uses.

    In these rows photos and pictures get the same texts, so that the discriminator cannot distinguish them by
    the text.
    """
    has_prior = config.objective.kl_weight or isinstance(generator, LayoutPredictingGenerator)
    if batch.blended_text is None or not has_prior:
        return batch
    count = _compared(batch, config)
    text = torch.cat([batch.conditions["text"][:count], batch.blended_text[count:]])
    return replace(batch, conditions={**batch.conditions, "text": text})


def _compared(batch: Batch, config: TrainConfig) -> int:
    """Returns how many pictures of a batch have the latents or layouts of their photos, at least 1."""
    return max(1, len(batch.real) - round(config.data.prior_share * len(batch.real)))
