"""Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training".

Real and generated pictures go through the same kinds of random transformation before the discriminator sees
them, so it cannot learn the few photos by heart. Colour changes are left out: it has to judge the colour.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

WHITE = 1.0


def translate(images: Tensor, generator: torch.Generator, *, share: float = 0.125) -> Tensor:
    """Shifts every picture by up to `share` of its side, each way; white comes in at the border.

    `images` is (B, 3, H, W) float32 in [-1, 1]; so is the result.
    """
    height, width = images.shape[2:]
    reach = max(1, round(share * max(height, width)))
    padded = F.pad(images, (reach, reach, reach, reach), value=WHITE)
    shifts = torch.randint(0, 2 * reach + 1, (len(images), 2), generator=generator).tolist()
    return torch.stack(
        [image[:, dy : dy + height, dx : dx + width] for image, (dy, dx) in zip(padded, shifts, strict=True)]
    )


def cutout(images: Tensor, generator: torch.Generator, *, share: float = 0.5) -> Tensor:
    """Sets a box of `share` of the side at a random place of every picture to mid-grey.

    `images` is (B, 3, H, W) float32 in [-1, 1]; so is the result. Boxes may stick out of the picture.
    """
    batch, _, height, width = images.shape
    centre = torch.rand((batch, 2, 1), generator=generator).to(images.device)
    rows = (torch.arange(height, device=images.device) + 0.5) / height
    columns = (torch.arange(width, device=images.device) + 0.5) / width
    inside_rows = (rows - centre[:, 0]).abs() < share / 2
    inside_columns = (columns - centre[:, 1]).abs() < share / 2
    keep = ~(inside_rows[:, :, None] & inside_columns[:, None, :])
    return images * keep[:, None]


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Translation and cutout, as in the paper's policy for few images. The generator lives on the CPU."""
    return cutout(translate(images, generator), generator)
