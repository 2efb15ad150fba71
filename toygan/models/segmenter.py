"""A small U-Net: Ronneberger et al. 2015, "Convolutional Networks for Biomedical Image Segmentation"."""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# numbers of channels at full, half, a quarter and an eighth of the resolution
WIDTHS: Final = (16, 32, 64, 96)


class Segmenter(nn.Module):
    """Maps pictures of any resolution from 32 pixels to labels."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.downs = nn.ModuleList(
            _layers(before, after) for before, after in zip((3, *WIDTHS), WIDTHS, strict=False)
        )
        self.ups = nn.ModuleList(
            _layers(WIDTHS[level] + WIDTHS[level + 1], WIDTHS[level])
            for level in reversed(range(len(WIDTHS) - 1))
        )
        self.label = nn.Conv2d(WIDTHS[0], classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (B, 3, H, W) float32 in [-1, 1] to logits (B, classes, H, W) float32."""
        x = images.contiguous(memory_format=torch.channels_last)
        kept: list[Tensor] = []
        for down in self.downs:
            x = down(F.max_pool2d(x, 2) if kept else x)
            kept.append(x)
        for up, seen in zip(self.ups, kept[-2::-1], strict=True):
            x = up(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), seen], dim=1))
        logits: Tensor = self.label(x)
        return logits


def _layers(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
