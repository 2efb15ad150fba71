"""Conditional StyleGAN2: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN".

From the paper: a mapping network, modulated and demodulated convolutions, noise inputs, a skip generator, a
residual discriminator, equalised learning rates, no tanh. With the paper's widths the networks have the same
numbers of weights.

Different from the paper:

- No extension has to be compiled. Modulation scales the input of a plain convolution, demodulation scales its
  output. This is equivalent (section 2.2) and needs no grouped convolution. The generator resizes by bilinear
  interpolation after a convolution, the discriminator by averaging before a convolution. So these
  convolutions run at the lower resolution.
- The discriminator has no minibatch statistics: the score of a picture must not depend on the rest of its
  batch.
- Conditions enter the generator through the mapping network, and the discriminator by a projection (Miyato &
  Koyama 2018, eq. 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from math import sqrt
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toygan.models.embedding import ConditionEmbedding
from toygan.models.layers import (
    ConditionalDiscriminator,
    Conditions,
    DiscriminatorOutput,
    NetworkConfig,
    StyledGenerator,
    project,
)
from toygan.models.modulation import (
    EqualisedConv2d,
    EqualisedLinear,
    ModulatedConv2d,
    activate,
    enlarge,
    normalise,
)

MAPPING_LR = 0.01  # learning rate of the mapping network as a share of the other layers' learning rate
STYLE_MIXING = 0.9  # share of the training pictures that get their styles from two latents
MEAN_STYLE_LATENTS = 128


@dataclass(frozen=True, kw_only=True)
class StyleganConfig(NetworkConfig):
    """The options of both networks.

    The paper uses latent_size, style_size and max_channels 512, mapping_layers 8, and channel_base 32768
    (16384 in its small configuration).
    """

    has_styles: ClassVar[bool] = True

    latent_size: int = 128
    style_size: int = 128
    condition_size: int = 64
    # number of channels times side in pixels; when the side doubles, the number of channels halves
    channel_base: int = 4096
    max_channels: int = 128  # the largest number of channels, used at low resolutions
    mapping_layers: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channel_base < self.resolution:
            raise ValueError(f"channel_base is {self.channel_base}; it must be at least the resolution")

    @property
    def widths(self) -> list[int]:
        """Returns the numbers of channels at the resolutions."""
        return [min(self.channel_base // side, self.max_channels) for side in self.resolutions]


class MappingNetwork(nn.Module):
    """Maps latents and conditions to styles."""

    def __init__(self, config: StyleganConfig) -> None:
        super().__init__()
        self.embedding = ConditionEmbedding.of(config, size=config.condition_size)
        sizes = [config.latent_size + config.condition_size, *[config.style_size] * config.mapping_layers]
        self.layers = nn.ModuleList(
            EqualisedLinear(before, after, rate=MAPPING_LR) for before, after in pairwise(sizes)
        )

    def forward(self, latents: Tensor, conditions: Conditions) -> Tensor:
        """Maps (B, latent_size) to (B, style_size) float32."""
        x = torch.cat([normalise(latents), normalise(self.embedding(conditions).float())], dim=1)
        for layer in self.layers:
            x = activate(layer(x))
        return x.float()


class StyledLayer(nn.Module):
    """Modulated convolution, optional upsampling, noise, bias, activation."""

    def __init__(self, inputs: int, outputs: int, style_size: int, *, upsample: bool = False) -> None:
        super().__init__()
        self.convolution = ModulatedConv2d(inputs, outputs, 3, style_size)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.upsample = upsample

    def forward(self, x: Tensor, styles: Tensor, noise: Tensor) -> Tensor:
        """Returns the layer's output. `noise` is (B, 1, H, W) at the resolution of the output."""
        x = self.convolution(x, styles)
        if self.upsample:
            x = enlarge(x)
        x = x + (noise * self.noise_strength).to(x.dtype)
        return activate(x + self.bias[None, :, None, None].to(x.dtype))


class ToRgb(nn.Module):
    """The RGB output of a block, without demodulation, so that styles can change the brightness."""

    def __init__(self, inputs: int, style_size: int) -> None:
        super().__init__()
        self.convolution = ModulatedConv2d(inputs, 3, 1, style_size, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, styles: Tensor) -> Tensor:
        # The 8 mantissa bits of bfloat16 cannot hold 8 bits of colour.
        with torch.autocast(x.device.type, enabled=False):
            images: Tensor = self.convolution(x.float(), styles) + self.bias[None, :, None, None]
        return images


class Generator(StyledGenerator):
    """Maps latents and conditions to pictures.

    There is a first layer, then two layers for each block. Each layer and the last ToRgb take a style. That
    makes 2 * log2(R) - 2 styles.
    """

    # Latents in pairs of opposite sign. The mean style of a condition is computed from them.
    mean_latents: Tensor

    def __init__(self, config: StyleganConfig) -> None:
        super().__init__()
        self.latent_size = config.latent_size
        self.sides = [config.resolutions[0], *(side for side in config.resolutions[1:] for _ in range(2))]
        widths, size = config.widths, config.style_size
        self.mapping = MappingNetwork(config)
        self.base = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        layers = [StyledLayer(widths[0], widths[0], size)]
        for before, after in pairwise(widths):
            layers += [StyledLayer(before, after, size, upsample=True), StyledLayer(after, after, size)]
        self.layers = nn.ModuleList(layers)
        self.to_rgb = nn.ModuleList(ToRgb(width, size) for width in widths)
        half = torch.randn(
            (MEAN_STYLE_LATENTS // 2, config.latent_size), generator=torch.Generator().manual_seed(0)
        )
        self.register_buffer("mean_latents", torch.cat([half, -half]), persistent=False)

    @property
    def style_count(self) -> int:
        return len(self.layers) + 1

    def forward(self, latents: Tensor, conditions: Conditions) -> Tensor:
        """Maps (B, latent_size) float32, standard normal, to (B, 3, R, R) float32; photos lie in [-1, 1].

        The noise of a picture is computed from its latents and depends on nothing else.
        """
        return self.synthesise(self.styles(latents, conditions), self.noise(latents))

    def styles(self, latents: Tensor, conditions: Conditions) -> Tensor:
        """Returns (B, style_count, style_size) float32: the style of a picture, repeated for all layers."""
        styles: Tensor = self.mapping(latents, conditions)
        return styles[:, None].expand(-1, self.style_count, -1)

    def noise(self, latents: Tensor) -> list[Tensor]:
        """Returns the noise of every layer, (B, 1, side, side) float32 each, standard normal.

        The seed of a picture's noise is a hash of its latents. The noise is generated on the CPU, one picture
        at a time. So it is the same on every device and in every batch.
        """
        rows = latents.detach().cpu().float().numpy()
        # torch's CPU generator uses only 32 bits of a seed.
        seeds = [int.from_bytes(sha256(row.tobytes()).digest()[:4]) for row in rows]
        count = self.noise_size
        drawn = torch.stack(
            [torch.randn(count, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        ).to(latents.device)
        return self.split_noise(drawn)

    @property
    def noise_size(self) -> int:
        """The number of noise values of a picture."""
        return sum(side**2 for side in self.sides)

    def split_noise(self, values: Tensor) -> list[Tensor]:
        """Splits (B, noise_size) into the noise of every layer, (B, 1, side, side) each."""
        parts = torch.split(values, [side**2 for side in self.sides], dim=1)
        return [part.view(-1, 1, side, side) for part, side in zip(parts, self.sides, strict=True)]

    def synthesise(self, styles: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """Maps styles (B, style_count, style_size) and the noise of every layer to pictures (B, 3, R, R)
        float32.
        """
        x = self.base.expand(styles.shape[0], -1, -1, -1).contiguous(memory_format=torch.channels_last)
        x = self.layers[0](x, styles[:, 0], noise[0])
        images: Tensor = self.to_rgb[0](x, styles[:, 1])
        for block, to_rgb in enumerate(self.to_rgb[1:]):
            for index in (2 * block + 1, 2 * block + 2):
                x = self.layers[index](x, styles[:, index], noise[index])
            images = enlarge(images) + to_rgb(x, styles[:, 2 * block + 3])
        return images

    def forward_truncated(self, latents: Tensor, conditions: Conditions, truncation: float) -> Tensor:
        """Moves styles towards their mean (Karras et al. 2019, appendix B).

        With `truncation` 1 the styles stay as they are, with 0 they are the mean. The mean is taken over
        latents with the picture's own condition. A mean over all conditions would change colours and
        category.
        """
        return self.synthesise(self.truncated_styles(latents, conditions, truncation), self.noise(latents))

    def truncated_styles(self, latents: Tensor, conditions: Conditions, truncation: float) -> Tensor:
        """Returns the styles of `forward_truncated`, (B, style_count, style_size) float32."""
        styles = self.styles(latents, conditions)
        if truncation != 1:
            means = self._mean_styles(conditions)
            styles = means[:, None].lerp(styles, truncation)
        return styles

    def _mean_styles(self, conditions: Conditions) -> Tensor:
        """Returns the mean style of each row's condition, (B, style_size). All rows use the same latents."""
        count = len(self.mean_latents)
        repeated = {name: value.repeat_interleave(count, dim=0) for name, value in conditions.items()}
        latents = self.mean_latents.repeat(conditions["category"].shape[0], 1)
        styles: Tensor = self.mapping(latents, repeated)
        return styles.view(-1, count, styles.shape[1]).mean(dim=1)

    def forward_in_training(self, latents: Tensor, conditions: Conditions, rng: torch.Generator) -> Tensor:
        """Generates pictures with mixed styles: from a random layer on, most use styles of other latents."""
        count = len(latents)
        others = torch.randn(latents.shape, generator=rng).to(latents.device)
        last = torch.randint(1, self.style_count, (count, 1), generator=rng)
        last[torch.rand(count, generator=rng) >= STYLE_MIXING] = self.style_count
        own = (torch.arange(self.style_count) < last).to(latents.device)[:, :, None]
        styles = torch.where(own, self.styles(latents, conditions), self.styles(others, conditions))
        return self.synthesise(styles, self.noise(latents))

    def forward_with_styles(self, latents: Tensor, conditions: Conditions) -> tuple[Tensor, Tensor]:
        styles = self.styles(latents, conditions)
        return self.synthesise(styles, self.noise(latents)), styles


class ResidualBlock(nn.Module):
    """Two convolutions with a residual connection, which halve the side.

    It mirrors a block of the generator.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = EqualisedConv2d(inputs, inputs, 3)
        self.second = EqualisedConv2d(inputs, outputs, 3)
        self.skip = EqualisedConv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) to (B, outputs, H / 2, W / 2)."""
        straight = self.skip(F.avg_pool2d(x, 2))
        x = activate(self.first(x))
        x = activate(self.second(F.avg_pool2d(x, 2)))
        halved: Tensor = (x + straight) / sqrt(2)
        return halved


class Discriminator(ConditionalDiscriminator):
    """Maps pictures and conditions to one logit each. It mirrors the generator block for block."""

    def __init__(self, config: StyleganConfig) -> None:
        super().__init__()
        widths = config.widths[::-1]
        self.from_rgb = EqualisedConv2d(3, widths[0], 1)
        self.blocks = nn.ModuleList(ResidualBlock(before, after) for before, after in pairwise(widths))
        self.last = EqualisedConv2d(widths[-1], widths[-1], 3)
        self.features = EqualisedLinear(widths[-1] * 16, widths[-1])
        self.logit = EqualisedLinear(widths[-1], 1)
        self.embedding = ConditionEmbedding.of(config, size=config.condition_size)
        self.projection = EqualisedLinear(config.condition_size, widths[-1])
        self.projection_gain = 1 / sqrt(widths[-1])
        # The projection starts at zero. Otherwise the discriminator would score the condition before it has
        # learnt features of the picture.
        nn.init.zeros_(self.projection.weight)

    def forward_with_features(self, images: Tensor, conditions: Conditions) -> DiscriminatorOutput:
        """Returns one logit per picture, (B,) float32; above 0 means more like a photo."""
        x = activate(self.from_rgb(images.contiguous(memory_format=torch.channels_last)))
        for block in self.blocks:
            x = block(x)
        x = activate(self.features(activate(self.last(x)).flatten(1)))
        projection = self.projection(self.embedding(conditions)) * self.projection_gain
        logits: Tensor = self.logit(x).squeeze(1) + project(x, projection)
        return DiscriminatorOutput(logits=(logits.float(),))


def build(config: StyleganConfig) -> tuple[Generator, Discriminator]:
    """Builds both networks with fresh weights."""
    return Generator(config), Discriminator(config)
