"""Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training".

Real and generated pictures go through the same kinds of random transformation before the discriminator sees
them, so it cannot learn the few photos by heart. Colour changes are left out: it has to judge the colour.
What is done to a picture is drawn first, on the CPU, and applied later, to the picture and to the condition
image that is judged with it.
"""

from dataclasses import dataclass, fields
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from toygan.models.layers import Conditions

WHITE = 1.0
SHIFT_SHARE = 0.125  # of the side, each way, at most
CUTOUT_SHARE = 0.5  # of the side
BACKGROUND = 0


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done to B pictures, one row each."""

    shifts: Tensor  # (B, 2) int64, pixels down and to the right from -reach to reach
    centres: Tensor  # (B, 2) float32 in [0, 1], where the box is cut out

    def __getitem__(self, rows: slice) -> Self:
        return type(self)(**{each.name: getattr(self, each.name)[rows] for each in fields(self)})

    def of_pictures(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float32 in [-1, 1] to the same: shifted, then with a grey box."""
        return cutout(translate(images, self.shifts, WHITE), self.centres)

    def of_conditions(self, conditions: Conditions) -> Conditions:
        """Condition images move with their pictures; nothing is cut out of them."""
        moved = dict(conditions)
        if "sketch" in moved:
            moved["sketch"] = translate(moved["sketch"], self.shifts, WHITE)
        if "layout" in moved:
            moved["layout"] = translate(moved["layout"][:, None], self.shifts, BACKGROUND)[:, 0]
        return moved


def draw_augmentation(count: int, resolution: int, generator: torch.Generator) -> Augmentation:
    """Translation and cutout for `count` pictures, as in the paper's policy for few images; on the CPU."""
    reach = max(1, round(SHIFT_SHARE * resolution))
    return Augmentation(
        shifts=torch.randint(-reach, reach + 1, (count, 2), generator=generator),
        centres=torch.rand((count, 2), generator=generator),
    )


def translate(images: Tensor, shifts: Tensor, fill: float) -> Tensor:
    """Moves every picture (B, C, H, W) by its own (B, 2) int64 pixels; `fill` comes in at the border."""
    height, width = images.shape[2:]
    reach = int(shifts.abs().max())
    padded = F.pad(images, (reach, reach, reach, reach), value=fill)
    corners = (reach - shifts).tolist()
    return torch.stack(
        [image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, corners, strict=True)]
    )


def cutout(images: Tensor, centres: Tensor) -> Tensor:
    """Sets a box around each of `centres` (B, 2) in [0, 1] to mid-grey; boxes may stick out of the picture.

    `images` is (B, 3, H, W) float32 in [-1, 1]; so is the result.
    """
    height, width = images.shape[2:]
    centre = centres.to(images.device)[:, :, None]
    rows = (torch.arange(height, device=images.device) + 0.5) / height
    columns = (torch.arange(width, device=images.device) + 0.5) / width
    inside_rows = (rows - centre[:, 0]).abs() < CUTOUT_SHARE / 2
    inside_columns = (columns - centre[:, 1]).abs() < CUTOUT_SHARE / 2
    keep = ~(inside_rows[:, :, None] & inside_columns[:, None, :])
    return images * keep[:, None]
