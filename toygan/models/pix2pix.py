"""Conditional Pix2Pix: Isola et al. 2017, "Image-to-Image Translation with Conditional Adversarial Networks".

Kept from the paper: a U-Net from the line drawing to the picture, strided 4 x 4 convolutions down to a single
pixel and as many layers back, each joined by what the encoder had at that size; leaky ReLU down, ReLU up; a
discriminator of patches of 70 x 70 pixels, which is shown the drawing beside the picture. Changed: the way up
repeats pixels and convolves, 3 x 3, instead of transposing strided convolutions, whose checkerboard (Odena et
al. 2016) stood on every picture; a latent, category, colour and text enter there through conditional batch
normalisation (de Vries et al. 2017), so that what a picture varies by follows from its seed and not from
dropout; generation uses running statistics, not those of the batch; spectral normalisation (Miyato et al.
2018) takes the place of batch normalisation in the discriminator, and the condition enters each patch's score
through a projection (Miyato & Koyama 2018, eq. 3), so that no score depends on batch-mates; no tanh at the
output, which sticks at pure white on photos that are mostly white.

With `layout_classes` there are two U-Nets in a row. What a drawing does not say is which part has which of
the product's colours, and a network that hedges paints them all at once. So the first one decides: it draws a
layout, by pointing at the colours that are told (See et al. 2017, "Get To The Point", eq. 9: a mixture of
what is pointed at and of what is known by heart), and the second one paints it.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import log2
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from toygan.conditions.colour import COLOUR_SIZE
from toygan.conditions.kinds import BACKGROUND, ImageCondition
from toygan.models.layers import (
    ConditionalBatchNorm2d,
    ConditionalDiscriminator,
    ConditionalGenerator,
    ConditionEmbedding,
    Conditions,
    Judgement,
    LayoutDrawingGenerator,
    NetworkConfig,
    SilentConv2d,
    told_colours,
)
from toygan.models.regions import settle
from toygan.models.shades import Shades, encode_layout

STRIDES = (2, 2, 2, 1, 1)  # of the discriminator's 4 x 4 convolutions: patches of 70 x 70
GROUND_WEIGHT = 0.2  # of a pixel of the ground in a layout's loss: there are many, and they are easy


@dataclass(frozen=True, kw_only=True)
class Pix2pixConfig(NetworkConfig):
    """Shape of both networks. The paper's: both channels 64, max_channels 512."""

    image_condition: ClassVar[ImageCondition | None] = "sketch"

    latent_size: int = 32
    condition_size: int = 64
    generator_channels: int = 32  # after the first convolution; each one towards 1 x 1 doubles them
    discriminator_channels: int = 48
    max_channels: int = 128
    layout_classes: int = 0  # labels from 0 of the layouts that it learns to draw first; 0: it draws none

    may_be_0: ClassVar[tuple[str, ...]] = (*NetworkConfig.may_be_0, "layout_classes")

    @property
    def generator_widths(self) -> list[int]:
        """Channels at resolution / 2, resolution / 4, ..., 1: log2(resolution) numbers."""
        count = int(log2(self.resolution))
        return [min(self.generator_channels * 2**depth, self.max_channels) for depth in range(count)]

    @property
    def discriminator_widths(self) -> list[int]:
        """Channels after each convolution but the last, which leaves one."""
        count = len(STRIDES) - 1
        return [min(self.discriminator_channels * 2**depth, self.max_channels) for depth in range(count)]


class _UNet(nn.Module):
    """All of a U-Net but its last layer."""

    def make_layers(self, widths: list[int], condition_size: int) -> None:
        # Neither the first nor the last is normalised: one shows the drawing, the other is a single pixel.
        normalised = [False, *[True] * (len(widths) - 2), False]
        self.downs = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=2, padding=1, bias=not norm)
            for (before, after), norm in zip(pairwise([1, *widths]), normalised, strict=True)
        )
        self.down_norms = nn.ModuleList(
            nn.BatchNorm2d(width) if norm else nn.Identity()
            for width, norm in zip(widths, normalised, strict=True)
        )
        # From the single pixel up; all but the first are shown the encoder's features as well.
        upwards = list(pairwise(widths[::-1]))
        self.ups = nn.ModuleList(
            nn.Conv2d(before * (1 if first else 2), after, 3, padding=1, bias=False)
            for first, (before, after) in zip([True, *[False] * len(upwards)], upwards, strict=False)
        )
        self.up_norms = nn.ModuleList(ConditionalBatchNorm2d(after, condition_size) for _, after in upwards)

    def features(self, x: Tensor, condition: Tensor) -> Tensor:
        """What the first convolution gave, (B, widths[0], R / 2, R / 2), and (B, condition_size) to
        (B, 2 * widths[0], R, R)."""
        skips = [x]
        for down, norm in list(zip(self.downs, self.down_norms, strict=True))[1:]:
            x = norm(down(F.leaky_relu(x, 0.2)))
            skips.append(x)
        skips.pop()
        for up, norm in zip(self.ups, self.up_norms, strict=True):
            x = norm(up(_repeat(F.relu(x))), condition)
            x = torch.cat([x, skips.pop()], dim=1)
        return _repeat(F.relu(x))


class Generator(_UNet, ConditionalGenerator):
    """Line drawings, latents and conditions to pictures."""

    def __init__(self, config: Pix2pixConfig) -> None:
        super().__init__()
        self.latent_size = config.latent_size
        widths = config.generator_widths
        self.embedding = ConditionEmbedding.of(config, size=config.condition_size)
        self.make_layers(widths, config.latent_size + config.condition_size)
        self.to_rgb = nn.Conv2d(2 * widths[0], 3, 3, padding=1)

    def forward(self, latents: Tensor, conditions: Conditions) -> Tensor:
        """(B, latent_size) float32, standard normal, to (B, 3, R, R) float32; real photos lie in [-1, 1]."""
        condition = torch.cat([latents, self.embedding(conditions)], dim=1)
        x = self.features(self.downs[0](_drawing(conditions)), condition)
        # Eight bits a channel need more than the eight bits of a bfloat16 mantissa.
        with torch.autocast(x.device.type, enabled=False):
            images: Tensor = self.to_rgb(x.float())
        return images


def _drawing(conditions: Conditions) -> Tensor:
    return conditions["sketch"].contiguous(memory_format=torch.channels_last)


class Colouring(_UNet):
    """Line drawings and conditions to layouts."""

    def __init__(self, config: Pix2pixConfig) -> None:
        super().__init__()
        self.classes = config.layout_classes
        self.colours = 1 + config.accent_colours
        widths = config.generator_widths
        self.make_layers(widths, config.latent_size + config.condition_size)
        self.to_labels = nn.Conv2d(2 * widths[0], self.colours + self.classes, 3, padding=1)

    def forward(self, drawing: Tensor, condition: Tensor, labels: Tensor, are_told: Tensor) -> Tensor:
        """The probabilities of each pixel's labels, (B, classes, R, R) float32.

        Takes (B, 1, R, R) drawings, (B, condition_size), and of the product's K colours the labels (B, K)
        int64 and whether they are told (B, K) bool.
        """
        x = self.features(self.downs[0](drawing), condition)
        with torch.autocast(x.device.type, enabled=False):
            logits = self.to_labels(x.float())
            withheld = ~are_told[:, :, None, None]
            pointing = logits[:, : self.colours].masked_fill(withheld, torch.finfo(torch.float32).min)
            shares = torch.cat([pointing, logits[:, self.colours :]], dim=1).softmax(dim=1)
            pointed = F.one_hot(labels, self.classes).float()
            drawn = torch.einsum("bkl,bkhw->blhw", pointed, shares[:, : self.colours])
            probabilities: Tensor = drawn + shares[:, self.colours :]
        return probabilities


def layout_loss(probabilities: Tensor, layout: Tensor) -> Tensor:
    """Cross-entropy of (B, classes, R, R) probabilities and (B, R, R) int64 labels, a scalar."""
    # What is all but impossible must not drown the rest.
    loss = F.nll_loss((probabilities + 1e-6).log(), layout, reduction="none")
    weights = torch.where(layout == BACKGROUND, GROUND_WEIGHT, 1.0)
    return (weights * loss).sum() / weights.sum()


class ColouringGenerator(Generator, LayoutDrawingGenerator):
    """With a U-Net that draws a layout first, on which is painted; see `toygan.models.regions`."""

    may_be_new = ("colouring.",)

    def __init__(self, config: Pix2pixConfig) -> None:
        super().__init__(config)
        self.layout_classes = config.layout_classes
        self.colouring = Colouring(config)
        self.shades = Shades()
        inputs, first = config.layout_classes + COLOUR_SIZE, config.generator_widths[0]
        self.colours_down = SilentConv2d(inputs, first, "zeros", "layout", kernel_size=4, stride=2)
        # Where a colour ends, to the pixel: the U-Net's last features have half the resolution.
        self.colours_to_rgb = SilentConv2d(inputs, 3, "zeros", "layout")

    def forward(self, latents: Tensor, conditions: Conditions) -> Tensor:
        condition = torch.cat([latents, self.embedding(conditions)], dim=1)
        probabilities = self._colour(condition, conditions)
        labels = self._settled(probabilities, conditions)
        images = self._paint(condition, conditions, encode_layout(labels, self.layout_classes))
        # A likeliest label there is even among NaN, which must not pass for a picture.
        return images + 0 * probabilities.sum(dim=(1, 2, 3))[:, None, None, None]

    def forward_with_layouts(
        self, latents: Tensor, conditions: Conditions, known: int
    ) -> tuple[Tensor, Tensor]:
        condition = torch.cat([latents, self.embedding(conditions)], dim=1)
        probabilities = self._colour(condition, conditions)
        told = encode_layout(conditions["layout"], self.layout_classes)
        drawn = encode_layout(probabilities.argmax(dim=1), self.layout_classes)
        # Forwards the likeliest label, backwards its probability: Bengio et al. 2013, "Estimating or
        # Propagating Gradients Through Stochastic Neurons", section 4.
        drawn = drawn + probabilities - probabilities.detach()
        images = self._paint(condition, conditions, torch.cat([told[:known], drawn[known:]]))
        return images, layout_loss(probabilities[:known], conditions["layout"][:known])

    def _told_labels(self, conditions: Conditions) -> Tensor:
        """Those of the product's colours, (B, K) int64; the ground's where none is told or known."""
        named = conditions.get("named_colours", told_colours(conditions))
        return torch.where(named[:, :, -1] > 0, self.shades.labels_of(named), BACKGROUND)

    def _colour(self, condition: Tensor, conditions: Conditions) -> Tensor:
        labels = self._told_labels(conditions)
        probabilities: Tensor = self.colouring(_drawing(conditions), condition, labels, labels != BACKGROUND)
        return probabilities

    def _settled(self, probabilities: Tensor, conditions: Conditions) -> Tensor:
        """The labels (B, R, R) int64 of (B, classes, R, R), settled by what the lines enclose."""
        paper = ((conditions["sketch"][:, 0] + 1) / 2).cpu().numpy()
        told = self._told_labels(conditions).tolist()
        drawn = zip(probabilities.detach().cpu().numpy(), paper, told, strict=True)
        return torch.from_numpy(np.stack([settle(*each) for each in drawn])).to(probabilities.device)

    def _paint(self, condition: Tensor, conditions: Conditions, layout: Tensor) -> Tensor:
        """The pictures of layouts, (B, classes, R, R) float32 as `encode_layout` has them."""
        named = conditions.get("named_colours")
        painted = self.shades(layout.argmax(dim=1), told_colours(conditions), named)
        shown = torch.cat([layout, painted], dim=1).contiguous(memory_format=torch.channels_last)
        x = self.features(self.downs[0](_drawing(conditions)) + self.colours_down(shown), condition)
        # Eight bits a channel need more than the eight bits of a bfloat16 mantissa.
        with torch.autocast(x.device.type, enabled=False):
            images: Tensor = self.to_rgb(x.float()) + self.colours_to_rgb(shown.float())
        return images


def _repeat(x: Tensor) -> Tensor:
    """Twice the side, each pixel four times."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Discriminator(ConditionalDiscriminator):
    """Pictures, line drawings and conditions to a map of logits, one a patch."""

    def __init__(self, config: Pix2pixConfig) -> None:
        super().__init__()
        widths = [4, *config.discriminator_widths]
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(before, after, 4, stride=stride, padding=1))
            for (before, after), stride in zip(pairwise(widths), STRIDES, strict=False)
        )
        self.logit = nn.Conv2d(widths[-1], 1, 4, stride=STRIDES[-1], padding=1)
        self.embedding = ConditionEmbedding.of(config, size=config.condition_size)
        self.projection = nn.Linear(config.condition_size, widths[-1])
        # Otherwise a projection discriminator judges the condition before it has learnt to see the picture.
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def judge(self, images: Tensor, conditions: Conditions) -> Judgement:
        """A map of logits (B, 1, R / 8 - 2, R / 8 - 2) float32; above 0 means rather real."""
        x = torch.cat([images, conditions["sketch"].to(images.dtype)], dim=1)
        x = x.contiguous(memory_format=torch.channels_last)
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        projection = self.projection(self.embedding(conditions))[:, :, None, None]
        # The same 4 x 4 patches of the last features as the logit's, each averaged.
        projected = F.avg_pool2d((projection.to(x.dtype) * x).sum(1, keepdim=True), 4, stride=1, padding=1)
        logits = self.logit(x) + projected
        return Judgement(logits=(logits.float(),), features=tuple(features))


def build(config: Pix2pixConfig) -> tuple[Generator, Discriminator]:
    """Both networks with fresh weights (N(0, 0.02) in the convolutions, as in the paper)."""
    generator = (ColouringGenerator if config.layout_classes else Generator)(config)
    discriminator = Discriminator(config)
    for module in generator.modules():
        if isinstance(module, nn.Conv2d) and not isinstance(module, SilentConv2d):
            nn.init.normal_(module.weight, std=0.02)
    return generator, discriminator
