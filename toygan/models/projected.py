"""Projected GAN: Sauer et al. 2021, "Projected GANs Converge Faster", with a light generator.

The discriminator sees pictures through a frozen network that has learnt to see on ImageNet; that is how
pre-training speeds this training up. Kept from the paper: maps of four strides, mixed across channels and
across scales by random convolutions that never change (section 3.2), and a head with its own logits for each
of them. Changed: each map is scaled by its own size first; smaller pictures are enlarged for the frozen
network, to 128 pixels instead of 256; a projection of the conditions in every head (Miyato & Koyama 2018,
eq. 3). The generator has skip-layer excitation (Liu et al. 2021) as the paper's, but styles in place of
gated linear units (Karras et al. 2020), for half the work, and no tanh, which sticks at white ground.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import log2, sqrt
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from toygan.models.backbone import STRIDES, create_backbone, feature_channels
from toygan.models.layers import (
    ConditionalGenerator,
    ConditionEmbedding,
    Conditions,
    Judgement,
    PretrainedDiscriminator,
)
from toygan.models.modulation import (
    EqualisedConv2d,
    EqualisedLinear,
    ModulatedConv2d,
    StyledConfig,
    activate,
    enlarge,
    normalise,
)

EXCITATION_RATIO = 8  # sides of the gated maps to those of the gating ones
LOGIT_SIDE = 4


@dataclass(frozen=True, kw_only=True)
class ProjectedConfig(StyledConfig):
    """Shape of both networks. The generator has log2(resolution) - 2 blocks from 4 x 4 to full resolution."""

    channel_base: int = 3584
    max_channels: int = 112
    backbone: str = "tf_efficientnet_lite1"  # any network of timm with maps at the strides 4, 8, 16 and 32
    backbone_weights: str = ""  # a safetensors file for the backbone, where toygan.backbone_weights has none
    backbone_resolution: int = 128  # pixels that smaller pictures are enlarged to for the backbone
    head_channels: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backbone_resolution % 32:
            raise ValueError(
                f"backbone_resolution is {self.backbone_resolution}; it must be a multiple of 32"
            )
        feature_channels(self.backbone)


class MappingNetwork(nn.Module):
    """Latents and conditions to styles."""

    def __init__(self, config: ProjectedConfig) -> None:
        super().__init__()
        self.embedding = ConditionEmbedding(
            categories=config.categories, size=config.condition_size, text_size=config.text_size
        )
        self.first = EqualisedLinear(config.latent_size + config.condition_size, config.style_size)
        self.second = EqualisedLinear(config.style_size, config.style_size)

    def forward(self, latents: Tensor, conditions: Conditions) -> Tensor:
        """(B, latent_size) to (B, style_size) float32.

        Latents are not normalised here, so that smaller ones give more typical pictures.
        """
        x = torch.cat([latents, normalise(self.embedding(conditions).float())], dim=1)
        return activate(self.second(activate(self.first(x)))).float()


class StyledLayer(nn.Module):
    """Modulated convolution, resizing where asked for, bias, activation."""

    def __init__(self, inputs: int, outputs: int, style_size: int, *, upsample: bool = False) -> None:
        super().__init__()
        self.convolution = ModulatedConv2d(inputs, outputs, 3, style_size)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.upsample = upsample

    def forward(self, x: Tensor, styles: Tensor) -> Tensor:
        """(B, inputs, H, W) and (B, style_size) to (B, outputs, H, W), or twice that side."""
        x = self.convolution(x, styles)
        if self.upsample:
            x = enlarge(x)
        return activate(x + self.bias[None, :, None, None].to(x.dtype))


class Block(nn.Module):
    """Two styled layers, the first of which doubles the side."""

    def __init__(self, inputs: int, outputs: int, style_size: int) -> None:
        super().__init__()
        self.first = StyledLayer(inputs, outputs, style_size, upsample=True)
        self.second = StyledLayer(outputs, outputs, style_size)

    def forward(self, x: Tensor, styles: Tensor) -> Tensor:
        """(B, inputs, H, W) and (B, style_size) to (B, outputs, 2H, 2W)."""
        enlarged: Tensor = self.second(self.first(x, styles), styles)
        return enlarged


class Excitation(nn.Module):
    """Skip-layer excitation: Liu et al. 2021 (FastGAN), eq. 1."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.squeeze = EqualisedLinear(coarse * 16, fine)
        self.excite = EqualisedLinear(fine, fine)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """(B, fine, H, W) and (B, coarse, h, w) to (B, fine, H, W): every channel times a gate in (0, 1)."""
        gates = self.excite(activate(self.squeeze(F.adaptive_avg_pool2d(coarse, 4).flatten(1))))
        return fine * torch.sigmoid(gates)[:, :, None, None].to(fine.dtype)


class Generator(ConditionalGenerator):
    """Latents and conditions to pictures."""

    def __init__(self, config: ProjectedConfig) -> None:
        super().__init__()
        self.latent_size = config.latent_size
        widths, size = config.widths, config.style_size
        self.mapping = MappingNetwork(config)
        self.base = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.first = StyledLayer(widths[0], widths[0], size)
        self.blocks = nn.ModuleList(Block(before, after, size) for before, after in pairwise(widths))
        self.reach = int(log2(EXCITATION_RATIO))
        self.excitations = nn.ModuleList(
            Excitation(coarse, fine) for coarse, fine in zip(widths, widths[self.reach :], strict=False)
        )
        self.to_rgb = EqualisedConv2d(widths[-1], 3, 3)
        # Pictures that begin far outside of [-1, 1] are driven to the colours of its corners.
        with torch.no_grad():
            self.to_rgb.weight.mul_(0.25)

    def forward(self, latents: Tensor, conditions: Conditions) -> Tensor:
        """(B, latent_size) float32, standard normal, to (B, 3, R, R) float32; real photos lie in [-1, 1]."""
        styles = self.mapping(latents, conditions)
        x = self.base.expand(len(styles), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        maps = [self.first(x, styles)]
        for block in self.blocks:
            x = block(maps[-1], styles)
            if len(maps) >= self.reach:
                source = len(maps) - self.reach
                x = self.excitations[source](x, maps[source])
            maps.append(x)
        # Eight bits a channel need more than the eight bits of a bfloat16 mantissa.
        with torch.autocast(x.device.type, enabled=False):
            images: Tensor = self.to_rgb(maps[-1].float())
        return images


class RandomConv2d(nn.Module):
    """A convolution that keeps its first, random weights."""

    weight: Tensor

    def __init__(self, inputs: int, outputs: int, kernel_size: int) -> None:
        super().__init__()
        shape = (outputs, inputs, kernel_size, kernel_size)
        self.register_buffer("weight", torch.randn(shape) / sqrt(inputs * kernel_size**2))
        self.padding = kernel_size // 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        return F.conv2d(x, self.weight, padding=self.padding)


class Head(nn.Module):
    """One scale: strided convolutions down to `LOGIT_SIDE`, and a logit for every place that is left.

    Without batch normalisation the heads win within minutes, and the generator learns nothing more.
    """

    def __init__(self, inputs: int, side: int, config: ProjectedConfig) -> None:
        super().__init__()
        width = config.head_channels
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
        self.projection = nn.Linear(config.condition_size, width)
        # Otherwise a projection discriminator judges the condition before it has learnt to see the picture.
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, inputs, side, side) and (B, condition_size) to (B, h, w) float32."""
        x = self.layers(x)
        projection = self.projection(condition)[:, :, None, None].to(x.dtype)
        # Divided by the root of its terms, not by their number: colours would be learnt late otherwise.
        logits: Tensor = self.logit(x).squeeze(1) + (projection * x).sum(1) / sqrt(x.shape[1])
        return logits.float()


class Discriminator(PretrainedDiscriminator):
    """Pictures and conditions to a map of logits a scale.

    The frozen network has random weights until `load_pretrained`, or until a stored model's are loaded.
    """

    has_batch_statistics = True

    def __init__(self, config: ProjectedConfig) -> None:
        super().__init__()
        self.pretrained_name = config.backbone
        self.pretrained_file = config.backbone_weights
        self.side = max(config.resolution, config.backbone_resolution)
        self.backbone = create_backbone(config.backbone)
        channels = feature_channels(config.backbone)
        self.channel_mixers = nn.ModuleList(RandomConv2d(width, width, 1) for width in channels)
        self.scale_mixers = nn.ModuleList(
            RandomConv2d(coarse, fine, 3) for fine, coarse in pairwise(channels)
        )
        self.embedding = ConditionEmbedding(
            categories=config.categories, size=config.condition_size, text_size=config.text_size
        )
        self.heads = nn.ModuleList(
            Head(width, self.side // stride, config) for width, stride in zip(channels, STRIDES, strict=True)
        )

    def load_pretrained(self, weights: Mapping[str, Tensor]) -> None:
        self.backbone.network.load_state_dict(weights)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Of all but the frozen network."""
        super().requires_grad_(requires_grad)
        self.backbone.requires_grad_(False)
        return self

    def judge(self, images: Tensor, conditions: Conditions) -> Judgement:
        """A map (B, h, w) of logits for each of `STRIDES`."""
        condition = self.embedding(conditions)
        maps = self.project(images)
        return Judgement(
            logits=tuple(head(each, condition) for head, each in zip(self.heads, maps, strict=True))
        )

    def project(self, images: Tensor) -> list[Tensor]:
        """(B, 3, R, R) to the mixed maps, fine to coarse: Sauer et al. 2021, section 3.2.

        Each map is scaled to a mean square of 1 a picture first, since those of the frozen network differ by
        orders of magnitude.
        """
        if images.shape[2] < self.side:
            images = F.interpolate(images, size=self.side, mode="bilinear", align_corners=False)
        maps = self.backbone(images.contiguous(memory_format=torch.channels_last))
        mixed = [
            mixer(x * torch.rsqrt(x.square().mean(dim=(1, 2, 3), keepdim=True) + 1e-8))
            for mixer, x in zip(self.channel_mixers, maps, strict=True)
        ]
        for index in reversed(range(len(self.scale_mixers))):
            coarse = F.interpolate(mixed[index + 1], size=mixed[index].shape[2:], mode="bilinear")
            mixed[index] = (mixed[index] + self.scale_mixers[index](coarse)) / sqrt(2)
        return mixed


def build(config: ProjectedConfig) -> tuple[Generator, Discriminator]:
    """Both networks with fresh weights."""
    return Generator(config), Discriminator(config)
