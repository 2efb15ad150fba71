"""Small pix2pix networks for tests."""

import torch
from torch import Tensor

from toygan.models.pix2pix import (
    Discriminator,
    Generator,
    Pix2pixConfig,
    build,
)

TINY = Pix2pixConfig(
    categories=3,
    resolution=32,
    latent_size=8,
    condition_size=4,
    generator_channels=4,
    discriminator_channels=4,
    max_channels=16,
)


def networks(config: Pix2pixConfig = TINY) -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    return build(config)


def conditions(
    batch: int, resolution: int = 32, *, category: int = 0, lightness: float = 0.0, left: int = 8
) -> dict[str, Tensor]:
    """Drawings of a square whose left side lies at `left`."""
    sketch = torch.ones(batch, 1, resolution, resolution)
    for frame in (8, 9):
        sketch[:, :, frame : 32 - frame, left + frame - 8 : 32 - frame] = -1 if frame == 8 else 1
    return {
        "category": torch.full((batch,), category),
        "colour": torch.tensor([[lightness, 0.3, -0.3, 1.0]]).repeat(batch, 1),
        "sketch": sketch,
    }
