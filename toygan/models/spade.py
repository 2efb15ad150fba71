"""GauGAN: Park et al. 2019, "Semantic Image Synthesis with Spatially-Adaptive Normalization" (SPADE).

From the paper: a generator of residual blocks, and an encoder from photos to latents. The layout modulates
every normalisation of the generator pixel by pixel (eq. 1). From Wang et al. 2018 (pix2pixHD), section 3.2:
discriminators of patches of layout and picture, on several scales, with features for feature matching.

Different from the paper:

- Each picture is normalised by itself, so that it does not depend on the rest of its batch.
- Latents, category, colour and text modulate together with the layout. A constant that is only added to a
  normalised picture would be lost in the next layer.
- With `colour_map`, a per-pixel map gives the colours, too. With `lines`, a sketch gives the edges inside an
  area of one label.
- A block upsamples after its first convolution instead of before it, and the skip connection is not
  normalised. Together this halves the work.
- A pixel of a downsampled layout holds the share of each class.
- The encoder averages over the picture, because a style has no position.
- The discriminator has no other normalisation than spectral normalisation (Miyato et al. 2018). It has a
  projection of the conditions (Miyato & Koyama 2018, eq. 3).
- There is no tanh at the output.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toygan.conditions.colour import COLOUR_SIZE
from toygan.conditions.condition_types import ImageCondition
from toygan.models.colour_map import ColourMap, encode_layout
from toygan.models.embedding import ConditionEmbedding
from toygan.models.layers import (
    COLOURS,
    ConditionalDiscriminator,
    ConditionalGenerator,
    Conditions,
    DiscriminatorOutput,
    NetworkConfig,
    PaddingMode,
    SilentConv2d,
    StyleEncodingGenerator,
    condition_projection,
    given_colours,
    project,
)
from toygan.models.spectral import spectral_norm


@dataclass(frozen=True, kw_only=True)
class SpadeConfig(NetworkConfig):
    """The options of both networks. The generator has log2(resolution) - 2 blocks, from 4 x 4 pixels up.

    The paper uses latent_size 256, generator_channels 64, modulation_channels 128, discriminator_channels 64
    and max_channels 1024 (512 in the discriminator).
    """

    image_condition: ClassVar[ImageCondition | None] = "layout"
    has_features: ClassVar[bool] = True

    layout_classes: int = 14  # the number of labels; the labels are 0..layout_classes - 1
    latent_size: int = 64
    condition_size: int = 64
    # number of channels at full resolution; it doubles with each block towards 4 x 4
    generator_channels: int = 32
    modulation_channels: int = 32  # number of hidden channels between the layout and the gains and biases
    discriminator_channels: int = 32  # number of channels after the first layer; it doubles with each layer
    max_channels: int = 128
    discriminator_layers: int = 3  # number of layers of each scale; each layer halves the side
    # number of scales; the second takes the picture at half the resolution, and so on
    discriminator_scales: int = 2
    colour_map: bool = False  # whether a per-pixel map gives the colours, see toygan.models.colour_map
    lines: bool = False  # whether the networks take a sketch beside the layout
    shuffled_share: float = 0.25  # share of training pictures that get another product's colours and text
    style_encoder: bool = True  # whether there is an encoder from photos to latents
    # Padding in the generator. "replicate" and "reflect" avoid a visible line along the picture's border.
    padding_mode: PaddingMode = "zeros"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resolution < 2 ** (self.discriminator_layers + self.discriminator_scales - 1):
            raise ValueError(
                f"discriminator_layers {self.discriminator_layers} and discriminator_scales "
                f"{self.discriminator_scales} are too many for {self.resolution} pixels; lower one of them"
            )
        if self.padding_mode not in get_args(PaddingMode):
            known = ", ".join(get_args(PaddingMode))
            raise ValueError(f"padding_mode is {self.padding_mode!r}; it must be one of {known}")
        if not 0 <= self.shuffled_share <= 1:
            raise ValueError(f"shuffled_share is {self.shuffled_share}; it must lie from 0 to 1")

    @property
    def widths(self) -> list[int]:
        """Returns the numbers of channels of the generator at each resolution."""
        return [
            min(self.generator_channels * self.resolution // side, self.max_channels)
            for side in self.resolutions
        ]

    @property
    def discriminator_widths(self) -> list[int]:
        """Returns the numbers of channels after each layer of one scale of the discriminator."""
        return [
            min(self.discriminator_channels * 2**layer, self.max_channels)
            for layer in range(self.discriminator_layers)
        ]


def _convolution(inputs: int, outputs: int, padding_mode: PaddingMode) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode=padding_mode)


class Spade(nn.Module):
    """Spatially adaptive normalisation: Park et al. 2019, eq. 1, but each picture has its own statistics.

    The gains (gamma) and biases (beta) are convolutions of the output of `LayoutEncoding`.
    """

    def __init__(self, channels: int, modulation_channels: int, padding_mode: PaddingMode = "zeros") -> None:
        super().__init__()
        self.norm = nn.GroupNorm(channels, channels, affine=False)  # instance normalisation
        self.gain = _convolution(modulation_channels, channels, padding_mode)
        self.bias = _convolution(modulation_channels, channels, padding_mode)
        # With gains of 1 the layout changes the normalised features only a little when a training starts.
        nn.init.ones_(self.gain.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, encoding: Tensor) -> Tensor:
        """Maps (B, channels, H, W) and (B, modulation_channels, H, W) to (B, channels, H, W)."""
        gain, bias = self.gain(encoding), self.bias(encoding)
        return torch.addcmul(bias, self.norm(x).to(bias.dtype), gain)


class LayoutEncoding(nn.Module):
    """The shared input of all modulations at one resolution: layout and conditions of the product.

    It adds layout and conditions and applies a ReLU. So a condition can act on some classes only. For
    example, the main colour acts on its own class, but not on the ground.
    """

    def __init__(self, config: SpadeConfig) -> None:
        super().__init__()
        self.layout = _convolution(config.layout_classes, config.modulation_channels, config.padding_mode)
        outputs = (config.modulation_channels, config.padding_mode)
        self.shade = SilentConv2d(COLOUR_SIZE, *outputs, "colour_map") if config.colour_map else None
        self.line = SilentConv2d(1, *outputs, "lines") if config.lines else None
        self.condition = nn.Linear(config.latent_size + config.condition_size, config.modulation_channels)

    def forward(
        self, layout: Tensor, colour_map: Tensor | None, lines: Tensor | None, condition: Tensor
    ) -> Tensor:
        """Encodes a layout and its conditions.

        Takes `layout` (B, classes, H, W), `colour_map` (B, COLOUR_SIZE, H, W), `lines` (B, 1, H, W) and
        `condition` (B, latent_size + condition_size). Returns (B, modulation_channels, H, W).
        """
        x = self.layout(layout)
        if self.shade is not None and colour_map is not None:
            x = x + self.shade(colour_map)
        if self.line is not None and lines is not None:
            x = x + self.line(lines)
        return F.relu(x + self.condition(condition)[:, :, None, None].to(x.dtype))


class ResidualBlock(nn.Module):
    """Two modulated convolutions with upsampling by 2 and a residual connection."""

    def __init__(self, inputs: int, outputs: int, config: SpadeConfig) -> None:
        super().__init__()
        modulation_channels, padding_mode = config.modulation_channels, config.padding_mode
        self.first_spade = Spade(inputs, modulation_channels, padding_mode)
        self.first = _convolution(inputs, outputs, padding_mode)
        self.second_spade = Spade(outputs, modulation_channels, padding_mode)
        self.second = _convolution(outputs, outputs, padding_mode)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) to (B, outputs, 2H, 2W).

        `before` is the layout encoding at H x W pixels, `after` the one at 2H x 2W.
        """
        straight = self.skip(x)
        x = enlarge(self.first(activate(self.first_spade(x, before))))
        x = self.second(activate(self.second_spade(x, after)))
        enlarged: Tensor = x + enlarge(straight)
        return enlarged


def activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


def enlarge(x: Tensor) -> Tensor:
    """Doubles the side by repeating pixels."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def _pyramid(x: Tensor, halvings: int) -> list[Tensor]:
    """Returns (B, C, R, R) and its reduced copies with the sides R / 2, R / 4, ..., the smallest first."""
    levels = [x]
    for _ in range(halvings):
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels[::-1]


class Generator(ConditionalGenerator):
    """Maps latents, layout and the other conditions to pictures."""

    def __init__(self, config: SpadeConfig) -> None:
        super().__init__()
        self.latent_size = config.latent_size
        self.layout_classes = config.layout_classes
        self.shuffled_share = config.shuffled_share
        widths = config.widths
        self.embedding = ConditionEmbedding.of(config, size=config.condition_size)
        self.base = nn.Linear(config.latent_size + config.condition_size, widths[0] * 16)
        self.base_shape = (widths[0], 4, 4)
        self.colour_map = ColourMap() if config.colour_map else None
        self.has_lines = config.lines
        self.encodings = nn.ModuleList(LayoutEncoding(config) for _ in widths)
        self.blocks = nn.ModuleList(
            ResidualBlock(before, after, config) for before, after in pairwise(widths)
        )
        self.to_rgb = _convolution(widths[-1], 3, config.padding_mode)

    def forward(self, latents: Tensor, conditions: Conditions) -> Tensor:
        """Maps (B, latent_size) float32, standard normal, to (B, 3, R, R) float32.

        Real photos lie in [-1, 1]. If `conditions` has no sketch, an empty sketch is used. Raises ValueError
        for a layout with a label of layout_classes or above.
        """
        condition = torch.cat([latents, self.embedding(conditions)], dim=1)
        encodings = self._encode(conditions, condition)
        x = self.base(condition).view(-1, *self.base_shape)
        x = x.contiguous(memory_format=torch.channels_last)
        for block, (before, after) in zip(self.blocks, pairwise(encodings), strict=True):
            x = block(x, before, after)
        x = activate(x)
        # The 8 mantissa bits of bfloat16 cannot hold 8 bits of colour.
        with torch.autocast(x.device.type, enabled=False):
            images: Tensor = self.to_rgb(x.float())
        return images

    def _encode(self, conditions: Conditions, condition: Tensor) -> list[Tensor]:
        """Returns the layout encodings at 4 x 4, 8 x 8, ..., R x R."""
        layout = conditions["layout"]
        shares = _pyramid(encode_layout(layout, self.layout_classes), len(self.blocks))
        nothing: Sequence[Tensor | None] = [None] * len(shares)
        painted = lines = nothing
        if self.colour_map is not None:
            named = conditions.get("named_colours")
            painted = _pyramid(self.colour_map(layout, given_colours(conditions), named), len(self.blocks))
        if self.has_lines and "sketch" in conditions:
            lines = _pyramid((1 - conditions["sketch"]) / 2, len(self.blocks))
        return [
            encoding(*levels, condition)
            for encoding, *levels in zip(self.encodings, shares, painted, lines, strict=True)
        ]

    def forward_in_training(self, latents: Tensor, conditions: Conditions, rng: torch.Generator) -> Tensor:
        """Generates pictures. `shuffled_share` of them get the colours and the text of another product.

        This teaches the generator to follow the layout. Without it, the product's colour would overrule the
        layout where a class of the layout was recoloured.
        """
        count = len(latents)
        others = torch.randint(count, (count,), generator=rng)
        is_shuffled = torch.rand(count, generator=rng) < self.shuffled_share
        rows = torch.where(is_shuffled, others, torch.arange(count)).to(latents.device)
        shuffled = {name: conditions[name][rows] for name in (*COLOURS, "text") if name in conditions}
        images: Tensor = self(latents, {**conditions, **shuffled})
        return images


class EncodingGenerator(Generator, StyleEncodingGenerator):
    """A generator with an encoder from photos to latents."""

    def __init__(self, config: SpadeConfig) -> None:
        super().__init__(config)
        widths = [3, *config.widths[-2::-1]]
        self.style_layers = nn.ModuleList(
            nn.Conv2d(narrow, wide, 4, stride=2, padding=1) for narrow, wide in pairwise(widths)
        )
        self.style = nn.Linear(widths[-1], 2 * config.latent_size)

    def encode_style(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = images.contiguous(memory_format=torch.channels_last)
        for layer in self.style_layers:
            x = activate(layer(x))
        mean, log_variance = self.style(x.mean(dim=(2, 3))).float().chunk(2, dim=1)
        return mean, log_variance


class PatchDiscriminator(nn.Module):
    """One scale of the discriminator: a logit for every patch."""

    def __init__(self, config: SpadeConfig) -> None:
        super().__init__()
        widths = [config.layout_classes + 3, *config.discriminator_widths]
        self.downs = nn.ModuleList(
            spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1))
            for before, after in pairwise(widths)
        )
        self.last = spectral_norm(nn.Conv2d(widths[-1], widths[-1], 3, padding=1))
        self.logit = nn.Conv2d(widths[-1], 1, 1)
        self.projection = condition_projection(config.condition_size, widths[-1])

    def forward(self, x: Tensor, embedded: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Maps (B, classes + 3, H, W) and (B, condition_size) to logits (B, h, w) and all features."""
        features = []
        for layer in (*self.downs, self.last):
            x = activate(layer(x))
            features.append(x)
        logits: Tensor = self.logit(x).squeeze(1) + project(x, self.projection(embedded))
        return logits.float(), features


class Discriminator(ConditionalDiscriminator):
    """Maps pictures, layouts and the other conditions to one map of logits for each scale."""

    def __init__(self, config: SpadeConfig) -> None:
        super().__init__()
        self.layout_classes = config.layout_classes
        self.embedding = ConditionEmbedding.of(config, size=config.condition_size)
        self.scales = nn.ModuleList(PatchDiscriminator(config) for _ in range(config.discriminator_scales))

    def forward_with_features(self, images: Tensor, conditions: Conditions) -> DiscriminatorOutput:
        """Returns a map of logits (B, h, w) for each scale, the largest first, and all features."""
        embedded = self.embedding(conditions)
        x = torch.cat([encode_layout(conditions["layout"], self.layout_classes), images], dim=1)
        x = x.contiguous(memory_format=torch.channels_last)
        logits: list[Tensor] = []
        features: list[Tensor] = []
        for number, scale in enumerate(self.scales):
            scale_logits, scale_features = scale(F.avg_pool2d(x, 2**number) if number else x, embedded)
            logits.append(scale_logits)
            features += scale_features
        return DiscriminatorOutput(logits=tuple(logits), features=tuple(features))


def build(config: SpadeConfig) -> tuple[Generator, Discriminator]:
    """Builds both networks with fresh weights."""
    return (EncodingGenerator if config.style_encoder else Generator)(config), Discriminator(config)
