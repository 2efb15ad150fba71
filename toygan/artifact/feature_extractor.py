"""Extracts features of pictures with a frozen network in torch. A probe takes these features as evidence."""

import torch
from torch import Tensor, nn

from toygan.artifact.backbone_weights import pretrained_weights
from toygan.artifact.probe_weights import BACKBONE, SIDE
from toygan.models.backbone import create_backbone, feature_channels


class FeatureExtractor(nn.Module):
    """Maps pictures to the deepest features of an ImageNet network; see `toygan.models.backbone`."""

    def __init__(self, side: int = SIDE) -> None:
        """Smaller pictures are enlarged to `side` pixels a side."""
        super().__init__()
        self.side = side
        with torch.random.fork_rng(devices=[]):
            self.backbone = create_backbone(BACKBONE)
        self.backbone.network.load_state_dict(pretrained_weights(BACKBONE))

    @property
    def size(self) -> int:
        """K, the number of features."""
        return feature_channels(BACKBONE)[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Maps (B, 3, R, R) float32 in [-1, 1] to (B, K) float32: each channel's mean in the last map."""
        return self.backbone.look(images, side=self.side)[-1].mean(dim=(2, 3))
