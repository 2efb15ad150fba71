"""Augmentation of photos and generated pictures.

Sources: Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training". For the adaptive
augmentation: Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data".

Photos and generated pictures get the same types of random transformation, so that the discriminator cannot
memorise the few photos. No transformation changes colours, because the discriminator has to score the colour.
There are no quarter turns, because a product has an upper side. The random parameters are chosen first, on
the CPU. They are applied later to the picture and to its condition image.
"""

from dataclasses import dataclass, fields
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toygan.models.layers import Conditions

WHITE = 1.0
SHIFT_SHARE = 0.125  # largest shift in each direction, as a share of the picture's side
CUTOUT_SHARE = 0.5  # side of the box that is cut out, as a share of the picture's side
BACKGROUND = 0
SCALE_DEVIATION = 0.2  # standard deviation of the scale's binary logarithm: Karras et al., appendix B
TURN_DEG = 15.0  # largest rotation in each direction
TARGET_SIGN = 0.6  # the mean sign that adaptation aims at, -1 to 1: Karras et al., section 3
ADJUSTED_EVERY_STEPS = 4  # the probability changes after this number of steps: Karras et al., section 3
HIGHEST_PROBABILITY = 0.8  # Karras et al., section 2.2: above this, augmentations leak into the pictures


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The transformations of B pictures, one row for each picture, in the order in which they are applied."""

    scales: Tensor  # (B,) float32; 1 keeps the size
    turns_deg: Tensor  # (B,) float32, anticlockwise
    shifts: Tensor  # (B, 2) int64, shifts down and to the right in pixels
    cuts: Tensor  # (B,) bool, whether a box is cut out
    centres: Tensor  # (B, 2) float32 in [0, 1], centres of the boxes

    def __getitem__(self, rows: slice) -> Self:
        return type(self)(**{each.name: getattr(self, each.name)[rows] for each in fields(self)})

    def of_pictures(self, images: Tensor) -> Tensor:
        """Scales, rotates and shifts pictures (B, 3, H, W) float32 in [-1, 1], then sets a box to grey."""
        return cutout(self._moved(images, WHITE), self.centres, self.cuts)

    def of_conditions(self, conditions: Conditions) -> Conditions:
        """Scales, rotates and shifts condition images in the same way as their pictures.

        No boxes are cut out of them.
        """
        moved = dict(conditions)
        if "sketch" in moved:
            moved["sketch"] = self._moved(moved["sketch"], WHITE)
        if "layout" in moved:
            labels = moved["layout"][:, None]
            moved["layout"] = self._moved(labels, BACKGROUND)[:, 0]
        return moved

    def _moved(self, images: Tensor, fill: float) -> Tensor:
        return translate(resample(images, self.scales, self.turns_deg, fill), self.shifts, fill)


def draw_augmentation(count: int, resolution: int, generator: torch.Generator) -> Augmentation:
    """Chooses random shifts and boxes for `count` pictures, as in Zhao et al.'s policy for few images."""
    reach = _reach(resolution)
    return Augmentation(
        scales=torch.ones(count),
        turns_deg=torch.zeros(count),
        shifts=torch.randint(-reach, reach + 1, (count, 2), generator=generator),
        cuts=torch.ones(count, dtype=torch.bool),
        centres=torch.rand((count, 2), generator=generator),
    )


def draw_some_augmentation(
    count: int, resolution: int, generator: torch.Generator, *, probability: float
) -> Augmentation:
    """Chooses random scales, rotations, shifts and boxes for `count` pictures, each transformation with
    `probability`.

    The number of random numbers does not depend on the probability.
    """
    reach = _reach(resolution)
    scaled, turned, shifted, cut = torch.rand((4, count), generator=generator) < probability
    scales = torch.exp2(SCALE_DEVIATION * torch.randn(count, generator=generator))
    turns_deg = TURN_DEG * (2 * torch.rand(count, generator=generator) - 1)
    shifts = torch.randint(-reach, reach + 1, (count, 2), generator=generator)
    return Augmentation(
        scales=torch.where(scaled, scales, 1.0),
        turns_deg=torch.where(turned, turns_deg, 0.0),
        shifts=torch.where(shifted[:, None], shifts, 0),
        cuts=cut,
        centres=torch.rand((count, 2), generator=generator),
    )


def draw_shifts(count: int, most: int, generator: torch.Generator) -> Augmentation:
    """Draws only a translation of `count` pictures, by up to `most` pixels in each direction."""
    return Augmentation(
        scales=torch.ones(count),
        turns_deg=torch.zeros(count),
        shifts=torch.randint(-most, most + 1, (count, 2), generator=generator),
        cuts=torch.zeros(count, dtype=torch.bool),
        centres=torch.full((count, 2), 0.5),
    )


def _reach(resolution: int) -> int:
    return max(1, round(SHIFT_SHARE * resolution))


class AdaptiveAugmentation(nn.Module):
    """Adapts the probability of each transformation: Karras et al., section 3.

    r_t, the mean sign of the scores of photos, shows how far the discriminator has memorised the photos (eq.
    1; `toygan.training.step` computes it). The probability rises while r_t is above `target`, and falls while
    it is below. A change by 1 takes at least `ramp_images` images. The class is a module, so that checkpoints
    contain its state. The state stays on the CPU.
    """

    state: Tensor  # (3,) float64: the probability, the sum of the signs, the number of signs

    def __init__(self, *, ramp_images: int, target: float = TARGET_SIGN) -> None:
        super().__init__()
        self.target = target
        self.ramp_images = ramp_images
        self.register_buffer("state", torch.zeros(3, dtype=torch.float64))

    @property
    def probability(self) -> float:
        return self.state[0].item()

    def observe(self, mean_sign: float, *, images: int, step: int) -> None:
        """Adds the mean sign for the `images` photos of a step. Every fourth step changes the probability."""
        self.state += torch.tensor([0.0, images * mean_sign, images], dtype=torch.float64)
        if (step + 1) % ADJUSTED_EVERY_STEPS:
            return
        probability, total, count = self.state.tolist()
        excess = total / count - self.target
        direction = (excess > 0) - (excess < 0)
        moved = probability + direction * count / self.ramp_images
        kept = min(max(moved, 0.0), HIGHEST_PROBABILITY)
        self.state.copy_(torch.tensor([kept, 0.0, 0.0], dtype=torch.float64))


def resample(images: Tensor, scales: Tensor, turns_deg: Tensor, fill: float) -> Tensor:
    """Scales and rotates every picture (B, C, H, W) around its centre; new pixels are `fill`.

    Floats are interpolated bilinearly. For integers, such as labels, each pixel takes the nearest pixel. A
    picture with scale 1 and rotation 0 stays bit for bit the same.
    """
    rows = ((scales != 1) | (turns_deg != 0)).nonzero()[:, 0]
    if not len(rows):
        return images
    # Maps a pixel of the result to its source.
    turns = turns_deg[rows].deg2rad()
    cosines, sines = turns.cos() / scales[rows], turns.sin() / scales[rows]
    nowhere = torch.zeros_like(cosines)
    back = torch.stack([cosines, -sines, nowhere, sines, cosines, nowhere], dim=1).view(-1, 2, 3)
    rows = rows.to(images.device)
    chosen = images[rows]
    grid = F.affine_grid(back.to(images.device), list(chosen.shape), align_corners=False)
    mode = "bilinear" if images.is_floating_point() else "nearest"
    # grid_sample fills new pixels with zeros, so `fill` is subtracted before and added after.
    moved = F.grid_sample(chosen.float() - fill, grid, mode=mode, align_corners=False) + fill
    return images.index_copy(0, rows, moved.to(images.dtype))


def translate(images: Tensor, shifts: Tensor, fill: float) -> Tensor:
    """Shifts each picture (B, C, H, W) by its row of `shifts` (B, 2) int64 pixels; new pixels are `fill`."""
    height, width = images.shape[2:]
    reach = int(shifts.abs().max())
    if not reach:
        return images
    padded = F.pad(images, (reach, reach, reach, reach), value=fill)
    corners = (reach - shifts).tolist()
    return torch.stack(
        [image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, corners, strict=True)]
    )


def cutout(images: Tensor, centres: Tensor, cuts: Tensor) -> Tensor:
    """Sets a box around each of `centres` (B, 2) in [0, 1] to mid-grey.

    Only rows with True in `cuts` (B,) get a box. A box may reach beyond the border. `images` and the result
    are (B, 3, H, W) float32 in [-1, 1].
    """
    height, width = images.shape[2:]
    centre = centres.to(images.device)[:, :, None]
    rows = (torch.arange(height, device=images.device) + 0.5) / height
    columns = (torch.arange(width, device=images.device) + 0.5) / width
    inside_rows = (rows - centre[:, 0]).abs() < CUTOUT_SHARE / 2
    inside_columns = (columns - centre[:, 1]).abs() < CUTOUT_SHARE / 2
    inside_rows = inside_rows & cuts.to(images.device)[:, None]
    keep = ~(inside_rows[:, :, None] & inside_columns[:, None, :])
    return images * keep[:, None]
