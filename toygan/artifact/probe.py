"""Applies a probe: a linear layer maps the features of a frozen network to a logit."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toygan.artifact.probe_weights import BACKBONE, ProbeWeights
from toygan.errors import ModelError

if TYPE_CHECKING:
    from toygan.artifact.compiled_extractor import CompiledExtractor
    from toygan.artifact.feature_extractor import FeatureExtractor


def shrink(images: Tensor, side: int) -> Tensor:
    """Shrinks (B, 3, R, R) float32 pictures to `side` pixels a side if they are larger.

    The probe was fitted to pictures of `side` pixels, and larger pictures take longer. Smaller pictures are
    returned unchanged: the network itself enlarges them.
    """
    if images.shape[-1] <= side:
        return images
    return F.interpolate(images, size=side, mode="bilinear", align_corners=False, antialias=True)


class Probe(nn.Module):
    """A linear layer on the features of a frozen network."""

    weights: Tensor

    def __init__(self, fitted: ProbeWeights, extractor: "FeatureExtractor | CompiledExtractor") -> None:
        """Raises ModelError when the probe was fitted to another network."""
        super().__init__()
        if (fitted.backbone, len(fitted.weights)) != (BACKBONE, extractor.size):
            raise ModelError(
                f"the probe of the model has {len(fitted.weights)} weights for {fitted.backbone}, "
                f"but this version of toygan needs {extractor.size} for {BACKBONE}; calibrate the model again"
            )
        self.extractor, self.side = extractor, fitted.side
        self.register_buffer("weights", torch.tensor(fitted.weights))
        self.intercept = fitted.intercept

    def forward(self, images: Tensor) -> Tensor:
        """Maps pictures (B, 3, R, R) float32 in [-1, 1] to logits (B,)."""
        evidence: Tensor = self.extractor(shrink(images, self.side))
        return evidence @ self.weights + self.intercept
