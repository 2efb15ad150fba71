"""Makes a studio picture from a shop's snapshot: the product stays the same, light and ground change.

A U-Net (Ronneberger et al. 2015; as a generator Isola et al. 2017, pix2pix) returns a gain and an offset for
every pixel of the product, like the local affine colour transforms of Gharbi et al. 2017 (HDRnet), section 3.
So prints, faces and edges stay those of the snapshot. The U-Net also gets the features of an encoder with
ImageNet weights, which sees the product alone. For a large picture, gains and offsets are computed on a small
copy. A second output is the new ground with its soft shadow. It cannot show the snapshot's ground, because
the network gets only smoothed colours of that ground.

The discriminator scores patches, as in pix2pix; its loss is relativistic, see `toygan.training.losses`.
"""

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toygan.conditions.colour import COLOUR_SIZE
from toygan.conditions.condition_types import ImageCondition
from toygan.models.boxes import box_maximum, box_sum
from toygan.models.layers import (
    ConditionalDiscriminator,
    ConditionalGenerator,
    Conditions,
    DiscriminatorOutput,
    NetworkConfig,
)
from toygan.models.lite import CHANNELS, Encoder
from toygan.models.spectral import spectral_norm
from toygan.models.steering import steer, terms

WORKING_SIDE: Final = 256  # the network works on a copy of this side, in pixels, if the snapshot is larger
FOLD: Final = 2  # all convolutions of the generator run at half of the picture's resolution
GROUND_CELL: Final = 16  # the network gets the mean ground colour of square cells with this side in pixels
# at this level of the U-Net, a pixel is such a cell: GROUND_CELL = FOLD * 2 ** GROUND_LEVEL
GROUND_LEVEL: Final = 3
PRODUCT_CELLS: Final = 16  # number of cells a side in which the product's colour is averaged
RIDGE_PAIRS: Final = 2000.0  # of the terms of degree 2 of the studio's light
# within this distance from the mask's edge, in pixels, colours may be mixed with those of the ground
EDGE: Final = 2
# the network gets the product's share of the square that reaches this many pixels from each pixel
NEARBY: Final = 15
_FOLDED: Final = 4  # the discriminator runs at a quarter of the picture's resolution


@dataclass(frozen=True, kw_only=True)
class StudioConfig(NetworkConfig):
    """The options of both networks.

    The networks get no category and no text, because the snapshot shows the product.
    """

    # the number of channels of each level, fine to coarse
    generator_channels: tuple[int, ...] = (32, 64, 128, 160, 192, 192)
    discriminator_channels: int = 24

    image_condition: ClassVar[ImageCondition | None] = "photo"
    has_features: ClassVar[bool] = True

    def __post_init__(self) -> None:
        widths = self.generator_channels
        super().__post_init__()
        if len(widths) <= GROUND_LEVEL or any(width < 1 for width in widths):
            raise ValueError(
                f"generator_channels is {widths}; it must hold at least {GROUND_LEVEL + 1} widths"
            )
        if self.resolution < FOLD * 2 ** (len(widths) - 1):
            raise ValueError(f"resolution is {self.resolution}, too few for {len(widths)} levels")

    def grows_from(self, smaller: NetworkConfig) -> bool:
        """Whether `smaller` is a studio config with equal channels; then its generator has weights of the
        same shapes.
        """
        return (
            isinstance(smaller, StudioConfig)
            and smaller.resolution < self.resolution
            and smaller.generator_channels == self.generator_channels
        )


def snapshot_and_mask(conditions: Conditions) -> tuple[Tensor, Tensor]:
    """Returns the snapshot (B, 3, R, R) in [-1, 1] and the product's mask (B, 1, R, R) in [0, 1]."""
    photo = conditions["photo"]
    return photo[:, :3], (photo[:, 3:] + 1) / 2


def own_colours(snapshot: Tensor, mask: Tensor) -> Tensor:
    """Returns the snapshot with clean colours at the product's edge, and 0 further out.

    Pixels at the edge mix the product with the old ground. They are replaced by the mean of nearby pixels
    further inside. `snapshot` is (B, 3, H, W) in [-1, 1], `mask` is (B, 1, H, W) in [0, 1].
    """
    known = (box_maximum(1 - mask, EDGE) < 0.1).float()
    filled = snapshot * known
    for reach in (2, 4):
        colours, count = box_sum(filled, reach), box_sum(known, reach)
        reached = (count > 0.5).float()
        filled = torch.addcmul(filled, colours, reached * (1 - known) / count.clamp_min(1))
        known = torch.maximum(known, reached)
    # Thin parts have no pixels further inside. They keep their own pixels.
    near = box_maximum(mask, EDGE) > 0.02
    return torch.where(known > 0, filled, snapshot) * near


def ground_colours(snapshot: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean colour of the ground in each cell, and the share of the cell that is ground.

    The result is (B, 4, H / GROUND_CELL, W / GROUND_CELL) float32. A cell without ground takes the colours of
    cells near it.
    """
    beside = box_maximum(mask, EDGE)
    ground = (beside < 0.05).float()
    share = F.avg_pool2d(ground, GROUND_CELL)
    colour = F.avg_pool2d(snapshot * ground, GROUND_CELL)
    return torch.cat([_spread(colour, share), share], dim=1)


def product_colours(product: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean colour of the product in 16 x 16 cells, (B, 3, 16, 16).

    `product` is (B, 3, R, R), `mask` is (B, 1, R, R) in [0, 1]. A cell without the product takes the colours
    of cells near it.
    """
    cell = max(1, mask.shape[-1] // PRODUCT_CELLS)
    share = F.avg_pool2d(mask, cell)
    return _spread(F.avg_pool2d(product * mask, cell), share)


def _spread(colour: Tensor, share: Tensor) -> Tensor:
    """Divides the sums of colours in cells (B, 3, H, W) by their shares (B, 1, H, W); cells of little share
    take the colours of cells near them.
    """
    for _ in range(8):
        share = share + 0.1 * F.avg_pool2d(share, 3, stride=1, padding=1)
        colour = colour + 0.1 * F.avg_pool2d(colour, 3, stride=1, padding=1)
    return colour / share.clamp_min(1e-9)


def _means(picture: Tensor, weight: Tensor) -> Tensor:
    """Returns the weighted mean and the weighted standard deviation of each channel, (B, 6)."""
    total = weight.sum(dim=(2, 3)).clamp_min(1.0)
    mean = (picture * weight).sum(dim=(2, 3)) / total
    square = (picture.square() * weight).sum(dim=(2, 3)) / total
    return torch.cat([mean, (square - mean.square()).clamp_min(1e-6).sqrt()], dim=1)


class StudioLight(nn.Module):
    """Maps colours of the catalog to colours in the studio's photos, by a polynomial of degree 2 in CIELAB.

    A photo does not show the exact colour of the catalog: the studio's light makes it brighter and paler, and
    dark colours more than light ones.
    """

    matrix: Tensor  # (10, 3) float32, the `light` of `toygan.models.steering.steer`

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.eye(10, 3))

    def fit(self, given: Tensor, shown: Tensor) -> None:
        """Fits the map to catalog colours and to the median colours of their products in photos, (N, 3)
        CIELAB each.
        """
        known = torch.from_numpy(terms(given.numpy())).double()
        # With few photos the ridges keep the map near the identity. On 428 photos of toy bricks, RIDGE_PAIRS
        # was about the best for any number of photos from 8 on.
        ridge = torch.diag(torch.tensor([0.3 * len(given)] * 3 + [1e-4 * len(given)] + [RIDGE_PAIRS] * 6))
        left = known.T @ known + ridge
        right = known.T @ shown.double() + ridge.double() @ torch.eye(10, 3, dtype=torch.float64)
        self.matrix.copy_(torch.linalg.solve(left, right).float())

    def steer(self, pictures: Tensor, masks: Tensor, colours: Tensor) -> Tensor:
        """Steers pictures (B, 3, H, W), given masks (B, 1, H, W) and colours (B, 4), on the host."""
        light = self.matrix.cpu().numpy()
        arrays = [each.detach().cpu().numpy() for each in (pictures, masks[:, 0], colours)]
        steered = [steer(picture, mask, colour, light) for picture, mask, colour in zip(*arrays, strict=True)]
        return torch.from_numpy(np.stack(steered)).to(pictures)


class Generator(ConditionalGenerator):
    """Maps a framed snapshot and the product's mask to the studio picture, without latents."""

    latent_size = 0
    may_be_new = ("light.",)

    def __init__(self, config: StudioConfig) -> None:
        super().__init__()
        widths = config.generator_channels
        self.downs = nn.ModuleList()
        before = 5 * FOLD**2
        # Its ImageNet features help to tell a surface's shape from the light on it.
        self.encoder = Encoder()
        for level, width in enumerate(widths):
            beside = (CHANNELS[level] if level < len(CHANNELS) else 0) + (4 if level == GROUND_LEVEL else 0)
            self.downs.append(_layers(before + beside, width))
            before = width
        self.given = nn.Sequential(nn.Linear(18 + COLOUR_SIZE, 96), nn.ReLU(), nn.Linear(96, 2 * widths[-1]))
        self.ups = nn.ModuleList(
            _layers(widths[level + 1] + widths[level], widths[level])
            for level in reversed(range(len(widths) - 1))
        )
        self.to_own = nn.Conv2d(widths[0], 6 * FOLD**2, 1)
        self.to_ground = nn.Conv2d(widths[0], 4 * FOLD**2, 3, padding=1)
        self.light = StudioLight()
        # Zeros make a new network return the product unchanged on white.
        for layer in (self.to_own, self.to_ground):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, latents: Tensor, conditions: Conditions) -> Tensor:
        """Maps `photo` (B, 4, R, R), a framed snapshot with its mask, to (B, 3, R, R).

        `colour` (B, 4) is the product's main colour, or zeros if it is unknown. `latents` (B, 0) are empty.
        """
        mask = snapshot_and_mask(conditions)[1]
        product, ground = self.product_and_ground(conditions)
        if not self.training:
            product = self.light.steer(product, mask, conditions["colour"])
        return mask * product + (1 - mask) * ground

    def product_and_ground(self, conditions: Conditions) -> tuple[Tensor, Tensor]:
        """Returns the product before its colour is steered, and the ground, (B, 3, R, R) each."""
        snapshot, mask = snapshot_and_mask(conditions)
        side = snapshot.shape[-1]
        fold = max(1, side // WORKING_SIDE)
        x = self._features(F.avg_pool2d(snapshot, fold), F.avg_pool2d(mask, fold), conditions["colour"])
        # The 8 mantissa bits of bfloat16 cannot hold 8 bits of colour.
        with torch.autocast(x.device.type, enabled=False):
            found = torch.cat([self.to_own(x.float()), self.to_ground(x.float())], dim=1)
            found = F.pixel_shuffle(found, FOLD)
            gain, offset = _enlarged(found[:, :6], side).chunk(2, dim=1)
            shade = _enlarged(_above_0(found[:, 6:]), side)  # three channels, then reflected light
            own = own_colours(snapshot, mask)
            product = ((own + 1) * torch.exp(gain.clamp(-2, 2)) + offset - 1).clamp(-1.2, 1.2)
            # The product keeps light from the ground, and reflects light of its own colour onto it.
            reflected = _enlarged(product_colours(product, mask), side) + 1
            ground = 1 - shade[:, :3] + shade[:, 3:] * reflected.clamp(0, 2)
        return product, ground

    def _features(self, snapshot: Tensor, mask: Tensor, colour: Tensor) -> Tensor:
        own = own_colours(snapshot, mask)
        grounds = ground_colours(snapshot, mask)
        coverage = box_sum(mask, NEARBY) / (2 * NEARBY + 1) ** 2
        x = F.pixel_unshuffle(torch.cat([own, mask - 0.5, coverage], dim=1), FOLD)
        x = x.contiguous(memory_format=torch.channels_last)
        maps = self.encoder((own * mask).contiguous(memory_format=torch.channels_last))
        kept: list[Tensor] = []
        for level, down in enumerate(self.downs):
            if level:
                x = F.avg_pool2d(x, 2)
            beside = [*maps[level : level + 1], *([grounds] if level == GROUND_LEVEL else [])]
            x = down(torch.cat([x, *beside], dim=1))
            kept.append(x)
        share = grounds[:, 3:]
        known = torch.cat(
            [
                _means(own, mask),
                _means(snapshot, torch.ones_like(mask)),
                _means(grounds[:, :3], share),
                colour,
            ],
            dim=1,
        )
        scale, shift = self.given(known)[:, :, None, None].chunk(2, dim=1)
        x = x * (1 + scale) + shift
        for up, fine in zip(self.ups, kept[-2::-1], strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = up(torch.cat([x, fine], dim=1))
        features: Tensor = x
        return features


class Discriminator(ConditionalDiscriminator):
    """Maps studio pictures and the product's mask to a map of logits, one for each patch."""

    def __init__(self, config: StudioConfig) -> None:
        super().__init__()
        channels = config.discriminator_channels
        self.head = spectral_norm(nn.Conv2d(4 * _FOLDED**2, channels, 3, stride=2, padding=1))
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(inputs, outputs, 3, padding=1))
            for inputs, outputs in ((channels, 2 * channels), (2 * channels, 2 * channels))
        )
        self.logit = nn.Conv2d(2 * channels, 1, 3, padding=1)

    def forward_with_features(self, images: Tensor, conditions: Conditions) -> DiscriminatorOutput:
        """Maps (B, 3, R, R) to logits (B, 1, R / 8, R / 8) float32, and returns the features, too."""
        shown = torch.cat([images.float() - 1, snapshot_and_mask(conditions)[1]], dim=1)
        x = F.leaky_relu(self.head(F.pixel_unshuffle(shown, _FOLDED)), 0.2)
        features = [x]
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        logits: Tensor = self.logit(x)
        return DiscriminatorOutput(logits=(logits.float(),), features=tuple(features))


def _above_0(x: Tensor) -> Tensor:
    """Maps all numbers to numbers above 0, and 0 to 0.009."""
    return F.softplus(4 * x - 4) / 2


def _enlarged(x: Tensor, side: int) -> Tensor:
    if x.shape[-1] == side:
        return x
    return F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)


def _layers(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.LeakyReLU(0.2),
    )


def build(config: StudioConfig) -> tuple[Generator, Discriminator]:
    """Builds both networks with fresh weights."""
    return Generator(config), Discriminator(config)
