"""The probe at work: a frozen network's evidence of a picture, and the logit that it comes to."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toygan.approval.probe import BACKBONE, ProbeWeights
from toygan.errors import ModelError

if TYPE_CHECKING:
    from toygan.generation.compiled_extractor import CompiledExtractor
    from toygan.generation.feature_extractor import FeatureExtractor


def shrink(images: Tensor, side: int) -> Tensor:
    """(B, 3, R, R) float32 pictures, made smaller where they have more than `side` pixels a side.

    The network learnt from pictures of that size, and larger ones take longer. It enlarges smaller ones
    itself.
    """
    if images.shape[-1] <= side:
        return images
    return F.interpolate(images, size=side, mode="bilinear", align_corners=False, antialias=True)


class Probe(nn.Module):
    """The last layer on the evidence that a network finds."""

    weights: Tensor

    def __init__(self, fitted: ProbeWeights, eye: "FeatureExtractor | CompiledExtractor") -> None:
        """Raises ModelError where the network is not the one that was probed."""
        super().__init__()
        numbers = eye.numbers(fitted.evidence)
        if (fitted.backbone, len(fitted.weights)) != (BACKBONE, numbers):
            raise ModelError(
                f"the probe of the model has {len(fitted.weights)} weights for what {fitted.backbone} sees, "
                f"this version has {numbers} for {BACKBONE}; calibrate the model again"
            )
        self.hears_discriminator = fitted.evidence == "all"
        self.eye, self.side = eye, fitted.side
        self.register_buffer("weights", torch.tensor(fitted.weights))
        self.intercept = fitted.intercept

    def forward(self, images: Tensor, logits: Tensor | None) -> Tensor:
        """(B, 3, R, R), and the discriminator's logits (B,) where it takes them, to the probe's, (B,)."""
        evidence: Tensor = self.eye(shrink(images, self.side), logits)
        return evidence @ self.weights + self.intercept
