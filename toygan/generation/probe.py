"""The probe at work: what a frozen network sees in a picture, and the logit that it comes to."""

import torch
from torch import Tensor, nn

from toygan.approval.probe import BACKBONE, SIDE, ProbeWeights
from toygan.backbone_weights import pretrained_weights
from toygan.errors import ModelError
from toygan.models.backbone import create_backbone, feature_channels


class Eye(nn.Module):
    """Pictures to evidence, by an ImageNet network at four strides; `toygan.models.backbone`."""

    def __init__(self, side: int = SIDE) -> None:
        """`side`: pixels that smaller pictures are enlarged to."""
        super().__init__()
        self.side = side
        with torch.random.fork_rng(devices=[]):
            self.backbone = create_backbone(BACKBONE)
        self.backbone.network.load_state_dict(pretrained_weights(BACKBONE))

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


class Probe(nn.Module):
    """The last layer on what the eye sees."""

    weights: Tensor

    def __init__(self, fitted: ProbeWeights) -> None:
        """Raises ModelError where the network is not at hand, or is not the one that was probed."""
        super().__init__()
        channels = feature_channels(BACKBONE)
        numbers = 1 + 2 * sum(channels) if fitted.evidence == "all" else channels[-1]
        if (fitted.backbone, len(fitted.weights)) != (BACKBONE, numbers):
            raise ModelError(
                f"the probe of the model has {len(fitted.weights)} weights for what {fitted.backbone} sees, "
                f"this version has {numbers} for {BACKBONE}; calibrate the model again"
            )
        self.hears_discriminator = fitted.evidence == "all"
        self.eye = Eye(fitted.side)
        self.register_buffer("weights", torch.tensor(fitted.weights))
        self.intercept = fitted.intercept

    def forward(self, images: Tensor, logits: Tensor | None) -> Tensor:
        """(B, 3, R, R), and the discriminator's logits (B,) where it hears them, to the probe's, (B,)."""
        evidence: Tensor = self.eye(images, logits)
        return evidence @ self.weights + self.intercept
