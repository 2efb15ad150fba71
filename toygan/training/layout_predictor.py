"""Trains the layout predictor, which predicts the layout and the lines of a photo that has none.

`toygan.artifact.layout_predictor` says what it is for.
"""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toygan.models.layers import Conditions
from toygan.models.segmenter import Segmenter

# weight of the loss of the lines; without it this loss would be small, because lines are thin
INK_WEIGHT: Final = 5.0
FIRST_INK: Final = -4.0  # the ink logit of an untrained network, so low that it predicts no lines


def fresh_segmenter(classes: int) -> Segmenter:
    """Returns a segmenter for labels in [0, classes), with weights from torch's global generator."""
    segmenter = Segmenter(classes + 1)
    with torch.no_grad():
        segmenter.label.weight[-1] = 0.0
        nn.init.constant_(segmenter.label.bias[-1:], FIRST_INK)  # type: ignore[index]
    return segmenter


def drawing_loss(logits: Tensor, conditions: Conditions) -> Tensor:
    """Returns the loss of a layout predictor's logits (B, classes + 1, R, R), a scalar.

    The loss of the labels is cross entropy. Most of a photo is background, so the weight of each label is 1 /
    sqrt(its share in the batch). The loss of the lines is binary cross entropy. A sketch without any lines
    counts as unknown, so it has no loss.
    """
    logits, labels = logits.float(), conditions["layout"]
    classes = logits.shape[1] - 1
    counts = torch.bincount(labels.flatten(), minlength=classes).clamp(min=1)
    loss = F.cross_entropy(logits[:, :-1], labels, weight=(counts.sum() / counts).sqrt())
    if "sketch" in conditions:
        ink = (1 - conditions["sketch"][:, 0]) / 2
        known = ink.amax(dim=(1, 2)) > 0
        ink_loss = F.binary_cross_entropy_with_logits(logits[:, -1], ink, reduction="none").mean(dim=(1, 2))
        loss = loss + INK_WEIGHT * (known * ink_loss).sum() / known.sum().clamp(min=1)
    return loss
