"""GauGAN: Park et al. 2019, "Semantic Image Synthesis with Spatially-Adaptive Normalization" (SPADE).

Kept from the paper: a generator of residual blocks from latents, whose every normalisation is modulated pixel
by pixel by the layout (eq. 1), an encoder that reads those latents off a photo, and the discriminators of
Wang et al. 2018 (pix2pixHD), section 3.2: patches of the layout and the picture, on several scales, their
features kept for matching. Changed: each picture is normalised by itself, so that it does not depend on its
batch-mates; latents, category, colour and text join the layout wherever it modulates, since what a normalised
picture only holds as a constant is lost in the next layer; with `shades` the colours are told pixel by pixel,
too, and with `lines` the edges inside a label are; a block enlarges after its first convolution instead of
before, and its skip is not normalised, for half the work; a smaller layout says which share of a pixel each
class has; the encoder averages over the picture, for a style has no place; the discriminator has spectral
normalisation (Miyato et al. 2018) only, and a projection of the conditions (Miyato & Koyama 2018, eq. 3); no
tanh.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from toygan.conditions.colour import COLOUR_SIZE
from toygan.conditions.kinds import ImageCondition
from toygan.models.layers import (
    COLOURS,
    ConditionalDiscriminator,
    ConditionalGenerator,
    ConditionEmbedding,
    Conditions,
    Judgement,
    NetworkConfig,
    PaddingMode,
    SilentConv2d,
    StyleEncodingGenerator,
    told_colours,
)
from toygan.models.shades import Shades, encode_layout


@dataclass(frozen=True, kw_only=True)
class SpadeConfig(NetworkConfig):
    """Shape of both networks. The generator has log2(resolution) - 2 blocks from 4 x 4 to full resolution.

    The paper's: latent_size 256, generator_channels 64, modulation_channels 128, discriminator_channels 64,
    max_channels 1024 (in the discriminator 512).
    """

    image_condition: ClassVar[ImageCondition | None] = "layout"

    layout_classes: int = 14  # labels from 0
    latent_size: int = 64
    condition_size: int = 64
    generator_channels: int = 32  # channels at full resolution; each block towards 4 x 4 doubles them
    modulation_channels: int = 32  # between the layout and the gains and biases that come of it
    discriminator_channels: int = 32  # after the first layer; each one more doubles them
    max_channels: int = 128
    discriminator_layers: int = 3  # each halves the side, on every scale
    discriminator_scales: int = 2  # the second sees the picture at half the resolution, and so on
    shades: bool = False  # whether colours are told where the layout has them, see toygan.models.shades
    lines: bool = False  # whether a sketch beside the layout says where the edges are
    mistold_share: float = 0.25  # of the training pictures: told colours and text of another product
    style_encoder: bool = True  # whether latents can be read off a photo
    padding_mode: PaddingMode = (
        "zeros"  # of the generator; "replicate" or "reflect" leave no line along the border
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resolution < 2 ** (self.discriminator_layers + self.discriminator_scales - 1):
            raise ValueError(
                f"discriminator_layers {self.discriminator_layers} and discriminator_scales "
                f"{self.discriminator_scales} leave nothing of {self.resolution} pixels; make one smaller"
            )
        if self.padding_mode not in get_args(PaddingMode):
            known = ", ".join(get_args(PaddingMode))
            raise ValueError(f"padding_mode is {self.padding_mode!r}; it must be one of {known}")
        if not 0 <= self.mistold_share <= 1:
            raise ValueError(f"mistold_share is {self.mistold_share}; it must lie from 0 to 1")

    @property
    def widths(self) -> list[int]:
        """Channels of the generator at each of the resolutions."""
        return [
            min(self.generator_channels * self.resolution // side, self.max_channels)
            for side in self.resolutions
        ]

    @property
    def discriminator_widths(self) -> list[int]:
        """Channels after each layer of a discriminator's scale."""
        return [
            min(self.discriminator_channels * 2**layer, self.max_channels)
            for layer in range(self.discriminator_layers)
        ]


def _convolution(inputs: int, outputs: int, padding_mode: PaddingMode) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode=padding_mode)


class Spade(nn.Module):
    """Park et al. 2019, eq. 1, with the mean and deviation of each picture by itself.

    The gains gamma and biases beta are a convolution of what `LayoutEncoding` makes of the layout.
    """

    def __init__(self, channels: int, modulation_channels: int, padding_mode: PaddingMode = "zeros") -> None:
        super().__init__()
        self.norm = nn.GroupNorm(channels, channels, affine=False)  # one channel a group: instance norm
        self.gain = _convolution(modulation_channels, channels, padding_mode)
        self.bias = _convolution(modulation_channels, channels, padding_mode)
        # The layout changes a little, at first, what the normalisation gives.
        nn.init.ones_(self.gain.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, encoding: Tensor) -> Tensor:
        """(B, channels, H, W) and (B, modulation_channels, H, W) to (B, channels, H, W)."""
        gain, bias = self.gain(encoding), self.bias(encoding)
        return torch.addcmul(bias, self.norm(x).to(bias.dtype), gain)


class LayoutEncoding(nn.Module):
    """What all modulations at one resolution are made of: the layout, as it is meant for this product.

    The sum under the ReLU lets the conditions mean something else to every class: a shade to the class of the
    main colour, nothing to the ground.
    """

    def __init__(self, config: SpadeConfig) -> None:
        super().__init__()
        self.layout = _convolution(config.layout_classes, config.modulation_channels, config.padding_mode)
        told = (config.modulation_channels, config.padding_mode)
        self.shade = SilentConv2d(COLOUR_SIZE, *told, "shades") if config.shades else None
        self.line = SilentConv2d(1, *told, "lines") if config.lines else None
        self.condition = nn.Linear(config.latent_size + config.condition_size, config.modulation_channels)

    def forward(
        self, layout: Tensor, shades: Tensor | None, lines: Tensor | None, condition: Tensor
    ) -> Tensor:
        """(B, classes, H, W), what `Shades` paints, (B, 1, H, W) and (B, latent_size + condition_size) to
        (B, modulation_channels, H, W)."""
        x = self.layout(layout)
        if self.shade is not None and shades is not None:
            x = x + self.shade(shades)
        if self.line is not None and lines is not None:
            x = x + self.line(lines)
        return F.relu(x + self.condition(condition)[:, :, None, None].to(x.dtype))


class ResidualBlock(nn.Module):
    """Two modulated convolutions and twice the side, with a residual connection."""

    def __init__(self, inputs: int, outputs: int, config: SpadeConfig) -> None:
        super().__init__()
        modulation_channels, padding_mode = config.modulation_channels, config.padding_mode
        self.first_spade = Spade(inputs, modulation_channels, padding_mode)
        self.first = _convolution(inputs, outputs, padding_mode)
        self.second_spade = Spade(outputs, modulation_channels, padding_mode)
        self.second = _convolution(outputs, outputs, padding_mode)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, 2H, 2W), with the layout's encodings at both resolutions."""
        straight = self.skip(x)
        x = enlarge(self.first(activate(self.first_spade(x, before))))
        x = self.second(activate(self.second_spade(x, after)))
        enlarged: Tensor = x + enlarge(straight)
        return enlarged


def activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


def enlarge(x: Tensor) -> Tensor:
    """Twice the side, every pixel repeated."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def _pyramid(x: Tensor, halvings: int) -> list[Tensor]:
    """(B, C, R, R) and its means at R / 2, R / 4, ..., the smallest first."""
    levels = [x]
    for _ in range(halvings):
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels[::-1]


class Generator(ConditionalGenerator):
    """Latents, layout and the other conditions to pictures."""

    def __init__(self, config: SpadeConfig) -> None:
        super().__init__()
        self.latent_size = config.latent_size
        self.layout_classes = config.layout_classes
        self.mistold_share = config.mistold_share
        widths = config.widths
        self.embedding = ConditionEmbedding.of(config, size=config.condition_size)
        self.base = nn.Linear(config.latent_size + config.condition_size, widths[0] * 16)
        self.base_shape = (widths[0], 4, 4)
        self.shades = Shades() if config.shades else None
        self.has_lines = config.lines
        self.encodings = nn.ModuleList(LayoutEncoding(config) for _ in widths)
        self.blocks = nn.ModuleList(
            ResidualBlock(before, after, config) for before, after in pairwise(widths)
        )
        self.to_rgb = _convolution(widths[-1], 3, config.padding_mode)

    def forward(self, latents: Tensor, conditions: Conditions) -> Tensor:
        """(B, latent_size) float32, standard normal, to (B, 3, R, R) float32; real photos lie in [-1, 1].

        A sketch beside the layout may be missing, as if nothing were drawn on it. Raises ValueError for a
        label that the networks were not made for.
        """
        condition = torch.cat([latents, self.embedding(conditions)], dim=1)
        encodings = self._encode(conditions, condition)
        x = self.base(condition).view(-1, *self.base_shape)
        x = x.contiguous(memory_format=torch.channels_last)
        for block, (before, after) in zip(self.blocks, pairwise(encodings), strict=True):
            x = block(x, before, after)
        x = activate(x)
        # Eight bits a channel need more than the eight bits of a bfloat16 mantissa.
        with torch.autocast(x.device.type, enabled=False):
            images: Tensor = self.to_rgb(x.float())
        return images

    def _encode(self, conditions: Conditions, condition: Tensor) -> list[Tensor]:
        """The layout's encodings at 4 x 4, 8 x 8, ..., R x R."""
        layout = conditions["layout"]
        shares = _pyramid(encode_layout(layout, self.layout_classes), len(self.blocks))
        nothing: Sequence[Tensor | None] = [None] * len(shares)
        painted = lines = nothing
        if self.shades is not None:
            named = conditions.get("named_colours")
            painted = _pyramid(self.shades(layout, told_colours(conditions), named), len(self.blocks))
        if self.has_lines and "sketch" in conditions:
            lines = _pyramid((1 - conditions["sketch"]) / 2, len(self.blocks))
        return [
            encoding(*levels, condition)
            for encoding, *levels in zip(self.encodings, shares, painted, lines, strict=True)
        ]

    def forward_in_training(self, latents: Tensor, conditions: Conditions, rng: torch.Generator) -> Tensor:
        """Some pictures are told colours and text of another product, so that the layout is what counts.

        Who recolours a class of a layout would be overruled by the product's colour otherwise.
        """
        count = len(latents)
        others = torch.randint(count, (count,), generator=rng)
        mistold = torch.rand(count, generator=rng) < self.mistold_share
        rows = torch.where(mistold, others, torch.arange(count)).to(latents.device)
        told = {name: conditions[name][rows] for name in (*COLOURS, "text") if name in conditions}
        images: Tensor = self(latents, {**conditions, **told})
        return images


class EncodingGenerator(Generator, StyleEncodingGenerator):
    """With an encoder that reads latents off photos."""

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
    """One scale: a logit for every patch."""

    def __init__(self, config: SpadeConfig) -> None:
        super().__init__()
        widths = [config.layout_classes + 3, *config.discriminator_widths]
        self.downs = nn.ModuleList(
            spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1))
            for before, after in pairwise(widths)
        )
        self.last = spectral_norm(nn.Conv2d(widths[-1], widths[-1], 3, padding=1))
        self.logit = nn.Conv2d(widths[-1], 1, 1)
        self.projection = nn.Linear(config.condition_size, widths[-1])
        # Otherwise a projection discriminator judges the condition before it has learnt to see the picture.
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, x: Tensor, embedded: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, classes + 3, H, W) and (B, condition_size) to logits (B, h, w) float32 and all features."""
        features = []
        for layer in (*self.downs, self.last):
            x = activate(layer(x))
            features.append(x)
        projection = self.projection(embedded)[:, :, None, None]
        logits: Tensor = self.logit(x).squeeze(1) + (projection * x).sum(1)
        return logits.float(), features


class Discriminator(ConditionalDiscriminator):
    """Pictures, layouts and the other conditions to a map of logits a scale."""

    def __init__(self, config: SpadeConfig) -> None:
        super().__init__()
        self.layout_classes = config.layout_classes
        self.embedding = ConditionEmbedding.of(config, size=config.condition_size)
        self.scales = nn.ModuleList(PatchDiscriminator(config) for _ in range(config.discriminator_scales))

    def judge(self, images: Tensor, conditions: Conditions) -> Judgement:
        """A map (B, h, w) of logits a scale, the largest first, and the features of every layer of each."""
        embedded = self.embedding(conditions)
        x = torch.cat([encode_layout(conditions["layout"], self.layout_classes), images], dim=1)
        x = x.contiguous(memory_format=torch.channels_last)
        logits: list[Tensor] = []
        features: list[Tensor] = []
        for number, scale in enumerate(self.scales):
            judged, seen = scale(F.avg_pool2d(x, 2**number) if number else x, embedded)
            logits.append(judged)
            features += seen
        return Judgement(logits=tuple(logits), features=tuple(features))


def build(config: SpadeConfig) -> tuple[Generator, Discriminator]:
    """Both networks with fresh weights."""
    return (EncodingGenerator if config.style_encoder else Generator)(config), Discriminator(config)
