"""Projected GAN: Sauer et al. 2021, "Projected GANs Converge Faster", with a light generator.

The discriminator takes the features of a frozen network that was trained on ImageNet. From the paper: feature
maps of four strides, mixed across channels and scales by fixed random convolutions (section 3.2), and one
head for each map. The generator is that of DCGAN with skip-layer excitation (Liu et al. 2021), as in the
paper.

Different from the paper:

- Each feature map is first divided by its own magnitude.
- Small pictures are enlarged for the frozen network to 128 pixels instead of 256.
- Every head has a projection of the conditions (Miyato & Koyama 2018, eq. 3).
- A second discriminator takes the pixels alone (Kumari et al. 2022, "Ensembling Off-the-shelf Models for GAN
  Training", eq. 2). ImageNet features hold little about colours, because the labels do not depend on them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2, sqrt
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toygan.models import dcgan
from toygan.models.backbone import STRIDES, create_backbone, feature_channels
from toygan.models.dcgan import DcganConfig
from toygan.models.layers import (
    Conditions,
    DiscriminatorOutput,
    PretrainedDiscriminator,
    RandomConv2d,
    condition_projection,
    project,
)
from toygan.models.spectral import spectral_norm

# the number of blocks between a gating map and the gated map, which has 8 times its side
EXCITATION_BLOCKS = 3
HEAD_CHANNELS = 64  # the number of channels of each layer of a head
LOGIT_SIDE = 4  # the heads reduce maps to this side in pixels


@dataclass(frozen=True, kw_only=True)
class ProjectedConfig(DcganConfig):
    """The options of all networks.

    Those of DCGAN apply to the generator and to the discriminator of pixels.
    """

    backbone: str = "tf_efficientnet_lite1"  # any network of timm with maps at the strides 4, 8, 16 and 32
    backbone_weights: str = (
        ""  # a safetensors file for a backbone whose weights toygan.artifact.backbone_weights cannot find
    )
    backbone_resolution: int = 128  # side in pixels to which smaller pictures are enlarged for the backbone

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backbone_resolution % 32:
            raise ValueError(
                f"backbone_resolution is {self.backbone_resolution}; it must be a multiple of 32"
            )
        feature_channels(self.backbone)


class Excitation(nn.Module):
    """Skip-layer excitation: Liu et al. 2021 (FastGAN), eq. 1."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(coarse * 16, fine)
        self.excite = nn.Linear(fine, fine)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Maps (B, fine, H, W) and (B, coarse, h, w) to (B, fine, H, W): every channel is multiplied by a
        gate in (0, 1).
        """
        squeezed = self.squeeze(F.adaptive_avg_pool2d(coarse, 4).flatten(1))
        gates = self.excite(F.leaky_relu(squeezed, 0.1))
        return fine * torch.sigmoid(gates)[:, :, None, None].to(fine.dtype)


class Generator(dcgan.Generator):
    """The generator of DCGAN, extended by gates: each feature map, from 4 x 4 pixels up, gates the map with
    eight times its side.
    """

    def __init__(self, config: ProjectedConfig) -> None:
        super().__init__(config)
        widths = config.widths(config.generator_channels)[::-1]
        self.excitations = nn.ModuleList(
            Excitation(coarse, fine) for coarse, fine in zip(widths, widths[EXCITATION_BLOCKS:], strict=False)
        )

    def refine(self, x: Tensor, coarser: Sequence[Tensor]) -> Tensor:
        """Returns the map (B, C, S, S), gated by the map of side S / 8 if `coarser` has such a map."""
        source = len(coarser) - EXCITATION_BLOCKS
        if source < 0:
            return x
        gated: Tensor = self.excitations[source](x, coarser[source])
        return gated


class EncodingGenerator(Generator, dcgan.EncodingGenerator):
    """A generator with an encoder from photos to latents."""


class Head(nn.Module):
    """The head of one scale: strided convolutions down to `LOGIT_SIDE`, then one logit for each place.

    It has batch normalisation. Without it, the heads become too good within minutes, and the generator stops
    learning.
    """

    def __init__(self, inputs: int, side: int, condition_size: int) -> None:
        super().__init__()
        width = HEAD_CHANNELS
        halvings = max(0, int(log2(side / LOGIT_SIDE)))
        layers: list[nn.Module] = []
        for _ in range(halvings):
            layers.append(spectral_norm(nn.Conv2d(inputs, width, 4, stride=2, padding=1, bias=False)))
            layers += [nn.BatchNorm2d(width), nn.LeakyReLU(0.2)]
            inputs = width
        layers.append(spectral_norm(nn.Conv2d(inputs, width, 3, padding=1, bias=False)))
        layers += [nn.BatchNorm2d(width), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.logit = spectral_norm(nn.Conv2d(width, 1, 1))
        self.projection = condition_projection(condition_size, width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Maps (B, inputs, side, side) and (B, condition_size) to logits (B, h, w) float32."""
        x = self.layers(x)
        projected = project(x, self.projection(condition).to(x.dtype))
        # The sum is divided by the root of the number of terms, not by the number itself: with the mean,
        # colours were learnt late.
        logits: Tensor = self.logit(x).squeeze(1) + projected / sqrt(x.shape[1])
        return logits.float()


class Discriminator(PretrainedDiscriminator):
    """Maps pictures and conditions to one map of logits for each scale.

    The frozen network has random weights until `load_pretrained`, or until a stored model's are loaded.
    """

    has_batch_statistics = True

    def __init__(self, config: ProjectedConfig) -> None:
        super().__init__()
        self.pretrained_name = config.backbone
        self.pretrained_file = config.backbone_weights
        self.side = max(config.resolution, config.backbone_resolution)
        self.of_pixels = dcgan.Discriminator(config)
        self.backbone = create_backbone(config.backbone)
        channels = feature_channels(config.backbone)
        self.channel_mixers = nn.ModuleList(RandomConv2d(width, width, 1) for width in channels)
        self.scale_mixers = nn.ModuleList(
            RandomConv2d(coarse, fine, 3) for fine, coarse in pairwise(channels)
        )
        self.embedding = dcgan.condition_embedding(config)
        self.heads = nn.ModuleList(
            Head(width, self.side // stride, config.condition_size)
            for width, stride in zip(channels, STRIDES, strict=True)
        )

    def load_pretrained(self, weights: Mapping[str, Tensor]) -> None:
        self.backbone.network.load_state_dict(weights)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Sets `requires_grad` of all weights except those of the frozen network."""
        super().requires_grad_(requires_grad)
        self.backbone.requires_grad_(False)
        return self

    def forward_with_features(self, images: Tensor, conditions: Conditions) -> DiscriminatorOutput:
        """Returns one logit (B,) from the pixels, then a map (B, h, w) of logits for each of `STRIDES`."""
        condition = self.embedding(conditions)
        maps = self.project(images)
        projected = [head(each, condition) for head, each in zip(self.heads, maps, strict=True)]
        return DiscriminatorOutput(
            logits=(*self.of_pixels.forward_with_features(images, conditions).logits, *projected)
        )

    def project(self, images: Tensor) -> list[Tensor]:
        """Maps (B, 3, R, R) to the mixed maps, fine to coarse: Sauer et al. 2021, section 3.2.

        Each map is first scaled to a mean square of 1 in each picture, because the maps of the frozen network
        differ by orders of magnitude.
        """
        mixed = [
            mixer(x * torch.rsqrt(x.square().mean(dim=(1, 2, 3), keepdim=True) + 1e-8))
            for mixer, x in zip(self.channel_mixers, self.backbone.look(images, side=self.side), strict=True)
        ]
        for index in reversed(range(len(self.scale_mixers))):
            coarse = F.interpolate(mixed[index + 1], size=mixed[index].shape[2:], mode="bilinear")
            mixed[index] = (mixed[index] + self.scale_mixers[index](coarse)) / sqrt(2)
        return mixed


def build(config: ProjectedConfig) -> tuple[Generator, Discriminator]:
    """Builds both networks with fresh weights."""
    generator = (EncodingGenerator if config.style_encoder else Generator)(config)
    discriminator = Discriminator(config)
    dcgan.initialise(generator, config)
    return generator, discriminator
