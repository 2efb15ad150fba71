"""The second stage: it enlarges the pictures of a first stage and adds the detail of large photos.

Sources: the coarse-to-fine generator of Wang et al. 2018 (pix2pixHD), section 3.1. Residual blocks at the
resolution of the small picture, then a sub-pixel convolution: Ledig et al. 2017 (SRGAN), section 2.1.1, and
Shi et al. 2016 (ESPCN), eq. 4. No batch normalisation: Wang et al. 2018 (ESRGAN), section 3.1. A
discriminator on the features of a frozen network, mixed by fixed random convolutions: Sauer et al. 2021
(Projected GANs), section 3.2. It is relativistic: Jolicoeur-Martineau 2018, in the form of Huang et al. 2024
(R3GAN), see `toygan.training.losses`.

Different from the papers: the generator also gets inputs at full resolution. These are the lines of a sketch,
and the borders and the silhouette of a layout. They are folded into channels (the inverse of the shuffling of
Shi et al.), so all convolutions run at the resolution of the small picture. The discriminator takes only the
finest maps of the frozen network, because detail is all that the generator adds: two of them, or three, so
that it also sees whole studs. That network reduces pictures in steps of two pixels, so a further
head takes the detail itself, at full resolution.

Both networks are fully convolutional: they train on crops and work on whole pictures of any size. Inside the
generator white is 0, so zero padding looks like more of the white ground.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toygan.conditions.condition_types import BACKGROUND
from toygan.models.backbone import create_backbone, feature_channels
from toygan.models.bands import fine_detail
from toygan.models.layers import (
    ConditionalGenerator,
    Conditions,
    DiscriminatorOutput,
    NetworkConfig,
    PretrainedDiscriminator,
    RandomConv2d,
)
from toygan.models.spectral import spectral_norm

SCALES: Final = (2, 4, 8)
DETAIL_CHANNELS: Final = 3  # one channel each for lines, borders and silhouette
BACKBONE: Final = "tf_efficientnet_lite1"
# What brings the three finest maps of BACKBONE to a mean square of about 1, measured on crops of photos. A
# crop's own magnitude would amplify the noise of plain white ground.
MAP_SCALES: Final = (0.108, 0.121, 0.156)
DETAIL_SCALE: Final = 20.5  # the same for the detail of `fine_detail`


@dataclass(frozen=True, kw_only=True)
class EnhancerConfig(NetworkConfig):
    """The options of both networks.

    The networks get no category, colour or text, because the small picture shows these.
    """

    small_resolution: int = 128  # the side in pixels of the pictures that are enlarged
    generator_channels: int = 32
    generator_blocks: int = 5
    discriminator_channels: int = 48
    deep_head: bool = False  # whether the third map of the frozen network has a head, too

    needs_small_picture: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resolution not in [scale * self.small_resolution for scale in SCALES]:
            raise ValueError(
                f"small_resolution is {self.small_resolution}; for a resolution of {self.resolution} it must "
                f"be one of {', '.join(str(self.resolution // scale) for scale in SCALES)}"
            )

    @property
    def scale(self) -> int:
        """The factor by which the side of a picture grows."""
        return self.resolution // self.small_resolution


def outline(layout: Tensor) -> Tensor:
    """Maps labels (B, H, W) int64 to (B, 1, H, W) float32: 1 at pixels beside a pixel of another label."""
    borders = torch.zeros_like(layout, dtype=torch.bool)
    across, down = layout[:, :, 1:] != layout[:, :, :-1], layout[:, 1:] != layout[:, :-1]
    borders[:, :, 1:] |= across
    borders[:, :, :-1] |= across
    borders[:, 1:] |= down
    borders[:, :-1] |= down
    return borders[:, None].float()


def detail(conditions: Conditions, *, side: tuple[int, int]) -> Tensor:
    """Returns the full-resolution inputs (B, 3, H, W) float32: ink, borders of labels, silhouette.

    Without a sketch the ink is 0. Without a layout the borders and the silhouette are 0.
    """
    small = conditions["small"]
    shown = small.new_zeros(small.shape[0], DETAIL_CHANNELS, *side)
    if "sketch" in conditions:
        shown[:, :1] = (1 - conditions["sketch"]) / 2
    if "layout" in conditions:
        shown[:, 1:2] = outline(conditions["layout"])
        shown[:, 2] = conditions["layout"] != BACKGROUND
    return shown


class ResidualBlock(nn.Module):
    """Two convolutions with a skip connection: Wang et al. 2018 (ESRGAN), but no dense connections."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels)
        self.second = _convolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, channels, h, w) to the same shape."""
        added: Tensor = x + self.second(_activate(self.first(x)))
        return added


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


class Generator(ConditionalGenerator):
    """Maps small pictures and their drawings to large pictures, without latents."""

    latent_size = 0

    def __init__(self, config: EnhancerConfig) -> None:
        super().__init__()
        channels = config.generator_channels
        self.scale = config.scale
        self.head = _convolution(3 + DETAIL_CHANNELS * self.scale**2, channels)
        self.blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(config.generator_blocks)))
        self.last = _convolution(channels, channels)
        self.to_rgb = nn.Conv2d(channels, 3 * self.scale**2, 3, padding=1)
        # So the output of a new network is the plainly enlarged picture.
        nn.init.zeros_(self.to_rgb.weight)
        nn.init.zeros_(self.to_rgb.bias)  # type: ignore[arg-type]

    def forward(self, latents: Tensor, conditions: Conditions) -> Tensor:
        """Maps `small` (B, 3, h, w) in [-1, 1] to (B, 3, H, W) float32.

        `sketch` (B, 1, H, W) and `layout` (B, H, W) are optional; `latents` (B, 0) are empty.
        """
        small = conditions["small"]
        height, width = small.shape[2:]
        side = (self.scale * height, self.scale * width)
        known = F.pixel_unshuffle(detail(conditions, side=side), self.scale)
        x = torch.cat([small - 1, known], dim=1).contiguous(memory_format=torch.channels_last)
        x = _activate(self.head(x))
        x = _activate(x + self.last(self.blocks(x)))
        # Contiguous, the same numbers take half the time.
        enlarged = F.interpolate(small.float().contiguous(), size=side, mode="bicubic", align_corners=False)
        # The 8 mantissa bits of bfloat16 cannot hold 8 bits of colour.
        with torch.autocast(x.device.type, enabled=False):
            added: Tensor = F.pixel_shuffle(self.to_rgb(x.float()), self.scale)
        return enlarged + added


class Discriminator(PretrainedDiscriminator):
    """Maps large pictures to maps of logits: some from a frozen network, one from the detail itself.

    It gets no conditions. The small picture would tell it which large pictures are generated, because a
    generated small picture has errors. Drawings would tell it nothing, because they agree with photos and
    with generated pictures.
    """

    may_be_new = ("heads.2.", "mixers.2.", "backbone.")  # `deep_head` begins with a training

    def __init__(self, config: EnhancerConfig) -> None:
        super().__init__()
        channels, maps = config.discriminator_channels, 3 if config.deep_head else 2
        self.pretrained_name, self.pretrained_file = BACKBONE, ""
        self.backbone = create_backbone(BACKBONE, maps)
        widths = feature_channels(BACKBONE)[:maps]
        self.scales = MAP_SCALES[:maps]
        self.mixers = nn.ModuleList(RandomConv2d(width, width, 1) for width in widths)
        self.heads = nn.ModuleList(_head(width, channels) for width in widths)
        first = max(1, channels // 2)
        self.detail_head = nn.Sequential(
            spectral_norm(nn.Conv2d(3, first, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(first, channels, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            *_head(channels, channels),
        )

    def load_pretrained(self, weights: Mapping[str, Tensor]) -> None:
        wanted = self.backbone.network.state_dict()
        self.backbone.network.load_state_dict({name: weights[name] for name in wanted})

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Sets `requires_grad` of all weights except those of the frozen network."""
        super().requires_grad_(requires_grad)
        self.backbone.requires_grad_(False)
        return self

    def forward_with_features(self, images: Tensor, conditions: Conditions) -> DiscriminatorOutput:
        """Maps (B, 3, H, W) to one map of logits for each head, float32; there are no features.

        They are (B, 1, H / 4, W / 4), (B, 1, H / 8, W / 8), with the deep head (B, 1, H / 16, W / 16), and
        (B, 1, H / 4, W / 4) for the detail.
        """
        maps = self.backbone.look(images.float(), side=0)
        logits = [
            head(mixer(scale * each)).float()
            for head, mixer, scale, each in zip(self.heads, self.mixers, self.scales, maps, strict=True)
        ]
        detail = DETAIL_SCALE * fine_detail(images.float())
        logits.append(self.detail_head(detail.contiguous(memory_format=torch.channels_last)).float())
        return DiscriminatorOutput(logits=tuple(logits))


def _head(inputs: int, channels: int) -> nn.Sequential:
    """Layers from features (B, inputs, h, w) to logits (B, 1, h, w)."""
    return nn.Sequential(
        spectral_norm(_convolution(inputs, channels)),
        nn.LeakyReLU(0.2),
        spectral_norm(_convolution(channels, channels)),
        nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(channels, 1, 1)),
    )


def build(config: EnhancerConfig) -> tuple[Generator, Discriminator]:
    """Builds both networks with fresh weights."""
    return Generator(config), Discriminator(config)
