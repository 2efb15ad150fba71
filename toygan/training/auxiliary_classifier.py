"""Semantic consistency: a classifier predicts category and colours of pictures (Odena et al. 2017, AC-GAN).

Different from the paper: the classifier is a separate network. It is trained on photos only, so it cannot
adapt to the errors of the generator.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from toygan.conditions.colour import COLOUR_SIZE
from toygan.models.layers import Conditions, given_colours

CHANNELS = (16, 32, 64, 64)


class AuxiliaryClassifier(nn.Module):
    """Maps pictures of any resolution from 32 pixels to category, main colour and accent colours."""

    def __init__(self, *, categories: int, accent_colours: int = 0) -> None:
        super().__init__()
        sizes = (3, *CHANNELS)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(sizes)
        )
        self.category = nn.Linear(CHANNELS[-1], categories)
        self.colour = nn.Linear(CHANNELS[-1], (1 + accent_colours) * (COLOUR_SIZE - 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, 3, R, R) float32 in [-1, 1] to category logits (B, categories) and colours (B, K, 3).

        The K colours are the main colour and the accent colours, in scaled CIELAB.
        """
        x = images
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x), 0.2)
        x = x.mean(dim=(2, 3))
        return self.category(x), self.colour(x).view(len(x), -1, COLOUR_SIZE - 1)


def semantic_loss(outputs: tuple[Tensor, Tensor], conditions: Conditions) -> Tensor:
    """Returns the loss of the classifier: the cross entropy of the category (Odena et al. 2017, eq. 3), plus
    the squared error of the known colours.
    """
    category, colours = outputs
    given = given_colours(conditions)
    target, known = given[:, :, :-1], given[:, :, -1:]
    errors = known * (colours.float() - target).square()
    category_loss: Tensor = F.cross_entropy(category.float(), conditions["category"])
    return category_loss + errors.sum() / (3 * known.sum()).clamp(min=1)
