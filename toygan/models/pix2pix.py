"""Conditional Pix2Pix: Isola et al. 2017, "Image-to-Image Translation with Conditional Adversarial Networks".

From the paper: a U-Net from the line drawing to the picture, with strided 4 x 4 convolutions down to one
pixel, as many layers up, and skip connections; leaky ReLU on the way down, ReLU on the way up; a
discriminator of patches of 70 x 70 pixels, which takes the drawing beside the picture.

Different from the paper:

- The way up repeats pixels and applies 3 x 3 convolutions. Transposed convolutions left a checkerboard (Odena
  et al. 2016) on every picture.
- Latents, category, colour and text enter on the way up, by conditional batch normalisation (de Vries et al.
  2017). So a picture varies with its seed and not with dropout.
- Generation uses running statistics, not those of the batch.
- The discriminator has spectral normalisation (Miyato et al. 2018) instead of batch normalisation, and a
  projection of the condition on each patch (Miyato & Koyama 2018, eq. 3). So no score depends on the rest of
  the batch.
- There is no tanh at the output: it saturates on photos that are mostly white.

With `layout_classes` there are two U-Nets in a row. A drawing does not say which part has which of the
product's colours, and a single network blends them. Here the first U-Net predicts a layout. For each pixel it
mixes two distributions, one over the given colours and one over all labels (See et al. 2017, "Get To The
Point", eq. 9). The second U-Net turns the layout into the picture.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import log2
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toygan.conditions.colour import COLOUR_SIZE
from toygan.conditions.condition_types import BACKGROUND, ImageCondition
from toygan.models.colour_map import ColourMap, encode_layout
from toygan.models.embedding import ConditionEmbedding
from toygan.models.layers import (
    ConditionalBatchNorm2d,
    ConditionalDiscriminator,
    ConditionalGenerator,
    Conditions,
    DiscriminatorOutput,
    LayoutPredictingGenerator,
    NetworkConfig,
    SilentConv2d,
    condition_projection,
    given_colours,
    project,
)
from toygan.models.regions import vote_by_region
from toygan.models.spectral import spectral_norm

STRIDES = (2, 2, 2, 1, 1)  # strides of the discriminator's 4 x 4 convolutions: patches of 70 x 70
GROUND_WEIGHT = 0.2  # weight of a ground pixel in the layout loss, because ground pixels are many and easy


@dataclass(frozen=True, kw_only=True)
class Pix2pixConfig(NetworkConfig):
    """The options of both networks.

    The paper uses generator_channels 64, discriminator_channels 64 and max_channels 512.
    """

    image_condition: ClassVar[ImageCondition | None] = "sketch"
    has_features: ClassVar[bool] = True

    latent_size: int = 32
    condition_size: int = 64
    # number of channels after the first convolution; it doubles with each layer towards 1 x 1
    generator_channels: int = 32
    discriminator_channels: int = 48
    max_channels: int = 128
    layout_classes: int = 0  # number of labels of the predicted layouts; 0 if no layout is predicted

    may_be_0: ClassVar[tuple[str, ...]] = (*NetworkConfig.may_be_0, "layout_classes")

    @property
    def generator_widths(self) -> list[int]:
        """Returns the numbers of channels at resolution / 2, resolution / 4, ..., 1: log2(resolution)
        numbers.
        """
        count = int(log2(self.resolution))
        return [min(self.generator_channels * 2**depth, self.max_channels) for depth in range(count)]

    @property
    def discriminator_widths(self) -> list[int]:
        """Returns the numbers of channels after each convolution except the last, which has one channel."""
        count = len(STRIDES) - 1
        return [min(self.discriminator_channels * 2**depth, self.max_channels) for depth in range(count)]


class _UNet(nn.Module):
    """A U-Net without its last layer."""

    def make_layers(self, widths: list[int], condition_size: int) -> None:
        # The first layer (the drawing) and the last (a single pixel) are not normalised.
        normalised = [False, *[True] * (len(widths) - 2), False]
        self.downs = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=2, padding=1, bias=not norm)
            for (before, after), norm in zip(pairwise([1, *widths]), normalised, strict=True)
        )
        self.down_norms = nn.ModuleList(
            nn.BatchNorm2d(width) if norm else nn.Identity()
            for width, norm in zip(widths, normalised, strict=True)
        )
        # From the single pixel to full resolution. All layers except the first also take features of the
        # encoder.
        upwards = list(pairwise(widths[::-1]))
        self.ups = nn.ModuleList(
            nn.Conv2d(before * (1 if first else 2), after, 3, padding=1, bias=False)
            for first, (before, after) in zip([True, *[False] * len(upwards)], upwards, strict=False)
        )
        self.up_norms = nn.ModuleList(ConditionalBatchNorm2d(after, condition_size) for _, after in upwards)

    def features(self, x: Tensor, condition: Tensor) -> Tensor:
        """Maps the output of the first convolution to the input of the last layer.

        Takes `x` (B, widths[0], R / 2, R / 2) and `condition` (B, condition_size). Returns
        (B, 2 * widths[0], R, R).
        """
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
    """Maps line drawings, latents and conditions to pictures."""

    def __init__(self, config: Pix2pixConfig) -> None:
        super().__init__()
        self.latent_size = config.latent_size
        widths = config.generator_widths
        self.embedding = ConditionEmbedding.of(config, size=config.condition_size)
        self.make_layers(widths, config.latent_size + config.condition_size)
        self.to_rgb = nn.Conv2d(2 * widths[0], 3, 3, padding=1)

    def forward(self, latents: Tensor, conditions: Conditions) -> Tensor:
        """Maps (B, latent_size) float32, standard normal, to (B, 3, R, R) float32; photos lie in [-1, 1]."""
        condition = torch.cat([latents, self.embedding(conditions)], dim=1)
        x = self.features(self.downs[0](_drawing(conditions)), condition)
        # The 8 mantissa bits of bfloat16 cannot hold 8 bits of colour.
        with torch.autocast(x.device.type, enabled=False):
            images: Tensor = self.to_rgb(x.float())
        return images


def _drawing(conditions: Conditions) -> Tensor:
    return conditions["sketch"].contiguous(memory_format=torch.channels_last)


class Colouring(_UNet):
    """Predicts layouts from line drawings and conditions."""

    def __init__(self, config: Pix2pixConfig) -> None:
        super().__init__()
        self.classes = config.layout_classes
        self.colours = 1 + config.accent_colours
        widths = config.generator_widths
        self.make_layers(widths, config.latent_size + config.condition_size)
        self.to_labels = nn.Conv2d(2 * widths[0], self.colours + self.classes, 3, padding=1)

    def forward(self, drawing: Tensor, condition: Tensor, labels: Tensor, are_given: Tensor) -> Tensor:
        """Returns the label probabilities of each pixel, (B, classes, R, R) float32.

        `drawing` is (B, 1, R, R), `condition` is (B, condition_size). `labels` (B, K) int64 are the labels of
        the product's K colours. `are_given` (B, K) bool says which of these colours are given.
        """
        x = self.features(self.downs[0](drawing), condition)
        with torch.autocast(x.device.type, enabled=False):
            logits = self.to_labels(x.float())
            withheld = ~are_given[:, :, None, None]
            pointing = logits[:, : self.colours].masked_fill(withheld, torch.finfo(torch.float32).min)
            shares = torch.cat([pointing, logits[:, self.colours :]], dim=1).softmax(dim=1)
            pointed = F.one_hot(labels, self.classes).float()
            by_pointer = torch.einsum("bkl,bkhw->blhw", pointed, shares[:, : self.colours])
            probabilities: Tensor = by_pointer + shares[:, self.colours :]
        return probabilities


def layout_loss(probabilities: Tensor, layout: Tensor) -> Tensor:
    """Weighted cross-entropy of probabilities (B, classes, R, R) and labels (B, R, R) int64, a scalar."""
    # The offset bounds the loss of a pixel whose label has a predicted probability of about 0.
    loss = F.nll_loss((probabilities + 1e-6).log(), layout, reduction="none")
    weights = torch.where(layout == BACKGROUND, GROUND_WEIGHT, 1.0)
    return (weights * loss).sum() / weights.sum()


class ColouringGenerator(Generator, LayoutPredictingGenerator):
    """Predicts a layout with a first U-Net, and turns it into a picture with a second; see
    `toygan.models.regions`.
    """

    may_be_new = ("colouring.",)

    def __init__(self, config: Pix2pixConfig) -> None:
        super().__init__(config)
        self.layout_classes = config.layout_classes
        self.colouring = Colouring(config)
        self.colour_map = ColourMap()
        inputs, first = config.layout_classes + COLOUR_SIZE, config.generator_widths[0]
        self.colours_down = SilentConv2d(inputs, first, "zeros", "layout", kernel_size=4, stride=2)
        # The last features of the U-Net have half the resolution; this layer gives colours exact edges.
        self.colours_to_rgb = SilentConv2d(inputs, 3, "zeros", "layout")

    def forward(self, latents: Tensor, conditions: Conditions) -> Tensor:
        probabilities, _ = self.predict_layout(latents, conditions)
        labels = self._vote(probabilities, conditions)
        images = self.paint_layout(latents, conditions, labels)
        # argmax hides NaN. The probabilities times 0 are added, so that a NaN stays visible in the picture.
        return images + 0 * probabilities.sum(dim=(1, 2, 3))[:, None, None, None]

    def predict_layout(self, latents: Tensor, conditions: Conditions) -> tuple[Tensor, Tensor]:
        """Returns the two inputs of the region vote.

        These are the label probabilities (B, classes, R, R) float32, and the labels of the product's colours
        (B, K) int64. A colour that is not given has the label BACKGROUND.
        """
        condition = torch.cat([latents, self.embedding(conditions)], dim=1)
        return self._colour(condition, conditions), self._given_labels(conditions)

    def paint_layout(self, latents: Tensor, conditions: Conditions, labels: Tensor) -> Tensor:
        """Generates pictures from the layouts of the region vote: maps (B, R, R) int64 to (B, 3, R, R)
        float32.
        """
        condition = torch.cat([latents, self.embedding(conditions)], dim=1)
        return self._paint(condition, conditions, encode_layout(labels, self.layout_classes))

    def forward_with_layouts(
        self, latents: Tensor, conditions: Conditions, known: int
    ) -> tuple[Tensor, Tensor]:
        condition = torch.cat([latents, self.embedding(conditions)], dim=1)
        probabilities = self._colour(condition, conditions)
        given = encode_layout(conditions["layout"], self.layout_classes)
        predicted = encode_layout(probabilities.argmax(dim=1), self.layout_classes)
        # Straight-through estimator: the forward pass uses the most likely label, the backward pass its
        # probability. Bengio et al. 2013, "Estimating or Propagating Gradients Through Stochastic Neurons",
        # section 4.
        predicted = predicted + probabilities - probabilities.detach()
        images = self._paint(condition, conditions, torch.cat([given[:known], predicted[known:]]))
        return images, layout_loss(probabilities[:known], conditions["layout"][:known])

    def _given_labels(self, conditions: Conditions) -> Tensor:
        """Returns the labels of the product's colours, (B, K) int64; BACKGROUND for a colour that is not
        given.
        """
        named = conditions.get("named_colours", given_colours(conditions))
        return torch.where(named[:, :, -1] > 0, self.colour_map.labels_of(named), BACKGROUND)

    def _colour(self, condition: Tensor, conditions: Conditions) -> Tensor:
        labels = self._given_labels(conditions)
        probabilities: Tensor = self.colouring(_drawing(conditions), condition, labels, labels != BACKGROUND)
        return probabilities

    def _vote(self, probabilities: Tensor, conditions: Conditions) -> Tensor:
        """Turns probabilities (B, classes, R, R) into labels (B, R, R) int64 by the region vote."""
        paper = ((conditions["sketch"][:, 0] + 1) / 2).cpu().numpy()
        given = self._given_labels(conditions).tolist()
        pictures = zip(probabilities.detach().cpu().numpy(), paper, given, strict=True)
        return torch.from_numpy(np.stack([vote_by_region(*each) for each in pictures])).to(
            probabilities.device
        )

    def _paint(self, condition: Tensor, conditions: Conditions, layout: Tensor) -> Tensor:
        """Generates pictures from layouts, (B, classes, R, R) float32 in the encoding of `encode_layout`."""
        named = conditions.get("named_colours")
        painted = self.colour_map(layout.argmax(dim=1), given_colours(conditions), named)
        shown = torch.cat([layout, painted], dim=1).contiguous(memory_format=torch.channels_last)
        x = self.features(self.downs[0](_drawing(conditions)) + self.colours_down(shown), condition)
        # The 8 mantissa bits of bfloat16 cannot hold 8 bits of colour.
        with torch.autocast(x.device.type, enabled=False):
            images: Tensor = self.to_rgb(x.float()) + self.colours_to_rgb(shown.float())
        return images


def _repeat(x: Tensor) -> Tensor:
    """Doubles the side by repeating pixels."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Discriminator(ConditionalDiscriminator):
    """Maps pictures, line drawings and conditions to a map of logits, one for each patch."""

    def __init__(self, config: Pix2pixConfig) -> None:
        super().__init__()
        widths = [4, *config.discriminator_widths]
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(before, after, 4, stride=stride, padding=1))
            for (before, after), stride in zip(pairwise(widths), STRIDES, strict=False)
        )
        self.logit = nn.Conv2d(widths[-1], 1, 4, stride=STRIDES[-1], padding=1)
        self.embedding = ConditionEmbedding.of(config, size=config.condition_size)
        self.projection = condition_projection(config.condition_size, widths[-1])

    def forward_with_features(self, images: Tensor, conditions: Conditions) -> DiscriminatorOutput:
        """Returns a map of logits (B, 1, R / 8 - 2, R / 8 - 2) float32; above 0 means more like a photo."""
        x = torch.cat([images, conditions["sketch"].to(images.dtype)], dim=1)
        x = x.contiguous(memory_format=torch.channels_last)
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        projected = project(x, self.projection(self.embedding(conditions)).to(x.dtype))
        # The projection is averaged over 4 x 4 patches, the same patches that the last convolution covers.
        logits = self.logit(x) + F.avg_pool2d(projected[:, None], 4, stride=1, padding=1)
        return DiscriminatorOutput(logits=(logits.float(),), features=tuple(features))


def build(config: Pix2pixConfig) -> tuple[Generator, Discriminator]:
    """Builds both networks with fresh weights (N(0, 0.02) in the convolutions, as in the paper)."""
    generator = (ColouringGenerator if config.layout_classes else Generator)(config)
    discriminator = Discriminator(config)
    for module in generator.modules():
        if isinstance(module, nn.Conv2d) and not isinstance(module, SilentConv2d):
            nn.init.normal_(module.weight, std=0.02)
    return generator, discriminator
