"""Extracts the evidence of probes from pictures."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from toygan.artifact.probe import shrink
from toygan.artifact.probe_weights import SIDE, Floats
from toygan.errors import ModelError
from toygan.images import from_uint8

if TYPE_CHECKING:
    from toygan.artifact.feature_extractor import FeatureExtractor


def load_feature_extractor(device: torch.device, side: int = SIDE) -> "FeatureExtractor":
    """Returns the network of probes on a device. The network enlarges smaller pictures to `side` pixels."""
    from toygan.artifact.feature_extractor import FeatureExtractor

    return FeatureExtractor(side).to(device).to(memory_format=torch.channels_last)


@torch.inference_mode()
def features(extractor: "FeatureExtractor", images: Tensor) -> Floats:
    """Returns features (B, K) of (B, 3, R, R) uint8 pictures. Raises ModelError if any is not finite."""
    shown = from_uint8(images.to(extractor.backbone.mean.device))
    seen: Tensor = extractor(shrink(shown, extractor.side))
    evidence: Floats = seen.cpu().numpy().astype(np.float64)
    if not np.isfinite(evidence).all():
        raise ModelError("the features of the pictures are not finite; the model is broken")
    return evidence
