"""What a frozen network sees in a picture, the evidence of a probe, by torch."""

import torch
from torch import Tensor, nn

from toygan.approval.probe import BACKBONE, SIDE, Evidence
from toygan.backbone_weights import pretrained_weights
from toygan.models.backbone import create_backbone, feature_channels


class FeatureExtractor(nn.Module):
    """Pictures to evidence, by an ImageNet network at four strides; `toygan.models.backbone`."""

    def __init__(self, side: int = SIDE) -> None:
        """`side`: pixels that smaller pictures are enlarged to."""
        super().__init__()
        self.side = side
        with torch.random.fork_rng(devices=[]):
            self.backbone = create_backbone(BACKBONE)
        self.backbone.network.load_state_dict(pretrained_weights(BACKBONE))

    def numbers(self, evidence: Evidence) -> int:
        """K, of this evidence."""
        channels = feature_channels(BACKBONE)
        return 1 + 2 * sum(channels) if evidence == "all" else channels[-1]

    def forward(self, images: Tensor, logits: Tensor | None = None) -> Tensor:
        """(B, 3, R, R) float32 in [-1, 1] to (B, K) float32.

        The mean of each channel of the deepest map over the picture. With `all` evidence first the
        discriminator's logit, of `logits` (B,), then the means of the channels of all maps, then their
        standard deviations.
        """
        maps = self.backbone.look(images, side=self.side)
        if logits is None:
            return maps[-1].mean(dim=(2, 3))
        means = [each.mean(dim=(2, 3)) for each in maps]
        deviations = [each.std(dim=(2, 3), correction=0) for each in maps]
        return torch.cat([logits[:, None], *means, *deviations], dim=1)
