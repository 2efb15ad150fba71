"""Semantic consistency: category and colours are read back from pictures, as Odena et al. 2017 (AC-GAN) do.

The reader is a small network of its own, trained on the photos alone, so that it never learns to read what
the generator happens to write.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from toygan.conditions.colour import COLOUR_SIZE
from toygan.models.layers import Conditions, given_colours

CHANNELS = (16, 32, 64, 64)


class AuxiliaryClassifier(nn.Module):
    """Pictures to category, main colour and accent colours; any resolution from 32 pixels."""

    def __init__(self, *, categories: int, accent_colours: int = 0) -> None:
        super().__init__()
        sizes = (3, *CHANNELS)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(sizes)
        )
        self.category = nn.Linear(CHANNELS[-1], categories)
        self.colour = nn.Linear(CHANNELS[-1], (1 + accent_colours) * (COLOUR_SIZE - 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, R, R) float32 in [-1, 1] to category logits (B, categories) and scaled CIELAB (B, K, 3).

        Of K colours, the main one and the accents.
        """
        x = images
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x), 0.2)
        x = x.mean(dim=(2, 3))
        return self.category(x), self.colour(x).view(len(x), -1, COLOUR_SIZE - 1)


def semantic_loss(recognised: tuple[Tensor, Tensor], conditions: Conditions) -> Tensor:
    """Odena et al. 2017, eq. 3, by cross entropy, and the squared error of the colours that are known."""
    category, colours = recognised
    told = given_colours(conditions)
    wanted, known = told[:, :, :-1], told[:, :, -1:]
    errors = known * (colours.float() - wanted).square()
    right: Tensor = F.cross_entropy(category.float(), conditions["category"])
    return right + errors.sum() / (3 * known.sum()).clamp(min=1)
