"""Conditional DCGAN: Radford et al. 2016, with later changes that keep its training stable.

From the paper: convolutions without pooling, batch normalisation and ReLU in the generator, strides and leaky
ReLU in the discriminator, channels that halve while the resolution doubles.

Different from the paper:

- The generator repeats pixels and convolves. Transposed convolutions left a checkerboard (Odena et al. 2016)
  on every picture.
- The condition enters the generator by conditional batch normalisation (de Vries et al. 2017) and the
  discriminator by a projection (Miyato & Koyama 2018, eq. 3).
- The discriminator has spectral normalisation (Miyato et al. 2018) instead of batch normalisation, so that
  the score of a picture does not depend on the rest of its batch.
- There is no tanh at the output: it saturates on photos that are mostly white.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import log2
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toygan.models.embedding import ConditionEmbedding
from toygan.models.layers import (
    ConditionalBatchNorm2d,
    ConditionalDiscriminator,
    ConditionalGenerator,
    Conditions,
    DiscriminatorOutput,
    NetworkConfig,
    StyleEncodingGenerator,
    condition_projection,
    project,
)
from toygan.models.spectral import spectral_norm


@dataclass(frozen=True, kw_only=True)
class DcganConfig(NetworkConfig):
    """The options of both networks. Both have log2(resolution) - 2 blocks, from 4 x 4 pixels up."""

    may_be_0: ClassVar[tuple[str, ...]] = (*NetworkConfig.may_be_0, "mapping_layers")

    latent_size: int = 128
    condition_size: int = 64
    generator_channels: int = 24  # number of channels at full resolution; each block towards 4 x 4 doubles it
    discriminator_channels: int = 32
    max_channels: int = 256
    # number of layers that map latents and conditions before these modulate the generator
    mapping_layers: int = 0
    style_encoder: bool = False  # whether there is an encoder from photos to latents
    whiten_text: bool = False  # see toygan.models.embedding.Whitening
    # brightness of a fresh network's pictures, -1 to 1; 1 suits photos that are mostly white
    first_brightness: float = 0.0

    def grows_from(self, smaller: NetworkConfig) -> bool:
        """Whether the blocks that both configs have are equally wide.

        So for twice the resolution, `generator_channels` must be half.
        """
        if not isinstance(smaller, DcganConfig) or smaller.resolution >= self.resolution:
            return False
        there = smaller.widths(smaller.generator_channels)
        here = self.widths(self.generator_channels)[-len(there) :]
        sizes = ["categories", "text_size", "resolution", "generator_channels", "discriminator_channels"]
        if not (self.accent_colours and smaller.accent_colours):
            sizes.append("accent_colours")
        as_here = {name: getattr(self, name) for name in sizes}
        return here == there and replace(smaller, **as_here) == self

    @property
    def blocks(self) -> int:
        return int(log2(self.resolution)) - 2

    def widths(self, channels: int) -> list[int]:
        """Returns the numbers of channels at resolution, resolution / 2, ..., 4: `blocks + 1` numbers."""
        return [min(channels * 2**depth, self.max_channels) for depth in range(self.blocks + 1)]


class Generator(ConditionalGenerator):
    """Maps latents and conditions to pictures."""

    def __init__(self, config: DcganConfig) -> None:
        super().__init__()
        self.latent_size = config.latent_size
        widths = config.widths(config.generator_channels)[::-1]
        condition_size = config.latent_size + config.condition_size
        self.embedding = condition_embedding(config)
        self.mapping = nn.ModuleList(
            nn.Linear(condition_size, condition_size) for _ in range(config.mapping_layers)
        )
        self.base = nn.Linear(condition_size, widths[0] * 16)
        self.base_shape = (widths[0], 4, 4)
        self.norms = nn.ModuleList([ConditionalBatchNorm2d(width, condition_size) for width in widths])
        self.ups = nn.ModuleList(
            nn.Conv2d(wide, narrow, 3, padding=1, bias=False) for wide, narrow in pairwise(widths)
        )
        self.to_rgb = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, latents: Tensor, conditions: Conditions) -> Tensor:
        """Maps (B, latent_size) float32, standard normal, to (B, 3, R, R) float32; photos lie in [-1, 1]."""
        condition = self.describe(latents, conditions)
        base = self.base(condition).view(-1, *self.base_shape)
        maps = [base.contiguous(memory_format=torch.channels_last)]
        for norm, up in zip(self.norms, self.ups, strict=False):
            enlarged = F.interpolate(F.relu(norm(maps[-1], condition)), scale_factor=2.0, mode="nearest")
            maps.append(self.refine(up(enlarged), maps))
        x = F.relu(self.norms[-1](maps[-1], condition))
        # The 8 mantissa bits of bfloat16 cannot hold 8 bits of colour.
        with torch.autocast(x.device.type, enabled=False):
            images: Tensor = self.to_rgb(x.float())
        return images

    def describe(self, latents: Tensor, conditions: Conditions) -> Tensor:
        """Joins latents and embedded conditions: (B, latent_size + condition_size)."""
        x = torch.cat([latents, self.embedding(conditions)], dim=1)
        for layer in self.mapping:
            x = x + F.silu(layer(x))
        return x

    def refine(self, x: Tensor, coarser: Sequence[Tensor]) -> Tensor:
        """Returns a block's feature map (B, C, S, S) unchanged.

        A family with connections across blocks overrides this method. `coarser` has the maps of the earlier
        blocks, from 4 x 4 up.
        """
        return x


class StyleEncoder(nn.Module):
    """Encodes photos as latents: Larsen et al. 2016, "Autoencoding beyond pixels" (VAE/GAN), section 2.1.

    It mirrors the generator block for block, without normalisation. The last layer comes first in the list,
    so that the block of a given side has the same index at any resolution.
    """

    def __init__(self, config: DcganConfig) -> None:
        super().__init__()
        widths = [*config.widths(config.generator_channels)[:0:-1], 3]
        self.layers = nn.ModuleList(
            nn.Conv2d(narrow, wide, 4, stride=2, padding=1) for wide, narrow in pairwise(widths)
        )
        self.style = nn.Linear(widths[0] * 16, 2 * config.latent_size)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, 3, R, R) float32 in [-1, 1] to mean and log variance, (B, latent_size) each."""
        x = images.contiguous(memory_format=torch.channels_last)
        for layer in reversed(self.layers):
            x = F.leaky_relu(layer(x), 0.2)
        mean, log_variance = self.style(x.flatten(1)).float().chunk(2, dim=1)
        return mean, log_variance


class EncodingGenerator(Generator, StyleEncodingGenerator):
    """A generator with an encoder from photos to latents."""

    def __init__(self, config: DcganConfig) -> None:
        super().__init__(config)
        self.style_encoder = StyleEncoder(config)

    def encode_style(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.style_encoder(images)
        return mean, log_variance


class Discriminator(ConditionalDiscriminator):
    """Maps pictures and conditions to one logit each. It mirrors the generator block for block."""

    def __init__(self, config: DcganConfig) -> None:
        super().__init__()
        widths = [3, *config.widths(config.discriminator_channels)[1:]]
        # The kernel has an even side, so that stride 2 covers every pixel equally often.
        self.downs = nn.ModuleList(
            spectral_norm(nn.Conv2d(narrow, wide, 4, stride=2, padding=1))
            for narrow, wide in pairwise(widths)
        )
        self.features = spectral_norm(nn.Linear(widths[-1] * 16, config.max_channels))
        self.logit = nn.Linear(config.max_channels, 1)
        self.embedding = condition_embedding(config)
        self.projection = condition_projection(config.condition_size, config.max_channels)

    def forward_with_features(self, images: Tensor, conditions: Conditions) -> DiscriminatorOutput:
        """Returns one logit per picture, (B,) float32, and no features.

        A logit above 0 means more like a photo (hinge loss).
        """
        x = images.contiguous(memory_format=torch.channels_last)
        for down in self.downs:
            x = F.leaky_relu(down(x), 0.2)
        features = F.leaky_relu(self.features(x.flatten(1)), 0.2)
        projection = self.projection(self.embedding(conditions))
        logits: Tensor = self.logit(features).squeeze(1) + project(features, projection)
        return DiscriminatorOutput(logits=(logits.float(),))


def build(config: DcganConfig) -> tuple[Generator, Discriminator]:
    """Builds both networks with fresh weights."""
    generator = (EncodingGenerator if config.style_encoder else Generator)(config)
    discriminator = Discriminator(config)
    initialise(generator, config)
    return generator, discriminator


def initialise(generator: Generator, config: DcganConfig) -> None:
    """Initialises the weights of the convolutions from N(0, 0.02), as in the paper, except in a style
    encoder.
    """
    for name, module in generator.named_modules():
        if isinstance(module, nn.Conv2d) and not name.startswith("style_encoder."):
            nn.init.normal_(module.weight, std=0.02)
    if config.first_brightness and generator.to_rgb.bias is not None:
        nn.init.constant_(generator.to_rgb.bias, config.first_brightness)


def condition_embedding(config: DcganConfig) -> ConditionEmbedding:
    """Returns a module that embeds category, colours and text, as each of the two networks has one."""
    return ConditionEmbedding.of(config, size=config.condition_size, whiten_text=config.whiten_text)
