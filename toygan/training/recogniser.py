"""Semantic consistency: category and colour are read back from the picture, as Odena et al. 2017 (AC-GAN) do.

The reader is a small network of its own, trained on the photos alone, so that it never learns to read what
the generator happens to write.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from toygan.conditions.colour import COLOUR_SIZE
from toygan.models.layers import Conditions

CHANNELS = (16, 32, 64, 64)


class Recogniser(nn.Module):
    """Pictures to category and main colour; any resolution from 32 pixels."""

    def __init__(self, *, categories: int) -> None:
        super().__init__()
        sizes = (3, *CHANNELS)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(sizes)
        )
        self.category = nn.Linear(CHANNELS[-1], categories)
        self.colour = nn.Linear(CHANNELS[-1], COLOUR_SIZE - 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, R, R) float32 in [-1, 1] to category logits (B, categories) and scaled CIELAB (B, 3)."""
        x = images
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x), 0.2)
        x = x.mean(dim=(2, 3))
        return self.category(x), self.colour(x)


def semantic_loss(recognised: tuple[Tensor, Tensor], conditions: Conditions) -> Tensor:
    """Odena et al. 2017, eq. 3, by cross entropy, and the squared error of the colour where it is known."""
    category, colour = recognised
    known = conditions["colour"][:, 3:]
    errors = known * (colour.float() - conditions["colour"][:, :3]).square()
    right = F.cross_entropy(category.float(), conditions["category"])
    return right + errors.sum() / (3 * known.sum()).clamp(min=1)
