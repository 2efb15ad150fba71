"""Finds the product in a snapshot: one probability for each pixel.

The encoder (`toygan.models.lite`) is followed by pooled context (Zhao et al. 2017, PSPNet, section 3.2) and
the decoder of a U-Net (Ronneberger et al. 2015). All these work on a small copy of the picture. The head gets
the picture in full resolution, so the mask's edges are as exact as the picture's pixels.
"""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toygan.models.lite import CHANNELS, Encoder

TRUNK_SIDE: Final = 256  # the side of the small copy in pixels
POOLED: Final = (1, 2, 4)  # the maps of pooled context have this number of cells a side


class MaskNetwork(nn.Module):
    """Maps square pictures to a logit for each pixel: above 0 where the pixel shows the product."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.reduce = _layer(CHANNELS[3], 64)
        self.pooled = nn.ModuleList(nn.Conv2d(64, 24, 1) for _ in POOLED)
        self.context = nn.Sequential(_layer(64 + 24 * len(POOLED), 64), _layer(64, 64, dilation=2))
        self.ups = nn.ModuleList(
            nn.Sequential(_layer(before + kept, after), _layer(after, after))
            for before, kept, after in ((64, CHANNELS[2], 48), (48, CHANNELS[1], 32), (32, CHANNELS[0], 24))
        )
        self.narrow = nn.Conv2d(24, 8, 1)
        self.head = nn.Sequential(
            nn.Conv2d(11, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU()
        )
        self.logit = nn.Conv2d(12, 1, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Maps (B, 3, S, S) float32 in [-1, 1] to logits (B, 1, S, S) float32. S is at least 256."""
        return self.look(pictures, small_copy(pictures))

    def look(self, pictures: Tensor, small: Tensor) -> Tensor:
        """Does the same with the pictures' `small_copy` given."""
        maps = self.encoder(small.contiguous(memory_format=torch.channels_last))
        x = self.reduce(maps[3])
        side = x.shape[-2:]
        pooled = [
            F.interpolate(layer(F.avg_pool2d(x, int(side[0]) // cells)), size=side, mode="bilinear")
            for layer, cells in zip(self.pooled, POOLED, strict=True)
        ]
        x = self.context(torch.cat([x, *pooled], dim=1))
        for up, kept in zip(self.ups, (maps[2], maps[1], maps[0]), strict=True):
            x = up(torch.cat([_enlarged(x, kept), kept], dim=1))
        x = torch.cat([_enlarged(self.narrow(x), pictures), pictures], dim=1)
        logits: Tensor = self.logit(self.head(x))
        return logits


def small_copy(pictures: Tensor) -> Tensor:
    """Returns pictures (B, 3, S, S) as (B, 3, 256, 256), which the encoder takes."""
    if pictures.shape[-1] == TRUNK_SIDE:
        return pictures
    return F.interpolate(
        pictures, size=(TRUNK_SIDE, TRUNK_SIDE), mode="bilinear", antialias=True, align_corners=False
    )


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _layer(inputs: int, outputs: int, *, dilation: int = 1) -> nn.Sequential:
    """A convolution without batch statistics, which are noisy in small batches."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation),
        nn.GroupNorm(8, outputs),
        nn.ReLU(),
    )
