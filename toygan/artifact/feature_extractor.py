"""Extracts features of pictures with a frozen network in torch. A probe takes these features as evidence."""

import torch
from torch import Tensor, nn

from toygan.artifact.backbone_weights import pretrained_weights
from toygan.artifact.probe_weights import BACKBONE, SIDE, Evidence
from toygan.models.backbone import create_backbone, feature_channels


class FeatureExtractor(nn.Module):
    """Maps pictures to evidence with an ImageNet network at four strides; see `toygan.models.backbone`."""

    def __init__(self, side: int = SIDE) -> None:
        """Smaller pictures are enlarged to `side` pixels a side."""
        super().__init__()
        self.side = side
        with torch.random.fork_rng(devices=[]):
            self.backbone = create_backbone(BACKBONE)
        self.backbone.network.load_state_dict(pretrained_weights(BACKBONE))

    def numbers(self, evidence: Evidence) -> int:
        """Returns K, the number of features of this evidence."""
        channels = feature_channels(BACKBONE)
        return 1 + 2 * sum(channels) if evidence == "all" else channels[-1]

    def forward(self, images: Tensor, logits: Tensor | None = None) -> Tensor:
        """Maps (B, 3, R, R) float32 in [-1, 1] to (B, K) float32.

        Without `logits` it returns `deepest` evidence: the mean of each channel of the deepest map. With
        `logits` (B,), those of the discriminator, it returns `all` evidence: the logit, then the means of the
        channels of all maps, then the standard deviations of the channels of all maps.
        """
        maps = self.backbone.look(images, side=self.side)
        if logits is None:
            return maps[-1].mean(dim=(2, 3))
        means = [each.mean(dim=(2, 3)) for each in maps]
        deviations = [each.std(dim=(2, 3), correction=0) for each in maps]
        return torch.cat([logits[:, None], *means, *deviations], dim=1)
