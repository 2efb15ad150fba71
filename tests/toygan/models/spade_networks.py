"""Small SPADE networks for tests."""

import torch
from torch import Tensor

from toygan.models.spade import (
    Discriminator,
    Generator,
    SpadeConfig,
    build,
)

TINY = SpadeConfig(
    categories=3,
    resolution=32,
    layout_classes=3,
    latent_size=8,
    condition_size=4,
    generator_channels=4,
    modulation_channels=4,
    discriminator_channels=4,
    max_channels=8,
)


def networks(config: SpadeConfig = TINY) -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    return build(config)


def conditions(
    batch: int, resolution: int = 32, *, category: int = 0, lightness: float = 0.0, label: int = 1
) -> dict[str, Tensor]:
    """Layouts of a square of class `label` whose upper half is of class 2, on ground of class 0."""
    layout = torch.zeros(batch, resolution, resolution, dtype=torch.int64)
    low, high = resolution // 4, resolution * 3 // 4
    layout[:, low:high, low:high] = label
    layout[:, low : resolution // 2, low:high] = 2
    return {
        "category": torch.full((batch,), category),
        "colour": torch.tensor([[lightness, 0.3, -0.3, 1.0]]).repeat(batch, 1),
        "layout": layout,
    }
