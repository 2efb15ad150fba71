"""What a frozen network sees in pictures: the features that the figures of an evaluation are made of.

The network is EfficientNet-Lite0, trained on ImageNet; see `toygan.backbones`. Distances on these features
are no figures of Inception: compare them with each other, never with those of other papers.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import timm
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from timm.models import EfficientNet
from torch import Tensor

from toygan.backbones import packaged_weights

NETWORK: Final = "tf_efficientnet_lite0"
INPUT_SIDE: Final = 224  # pixels
FEATURES: Final = 1280
# As the network was trained: (x - 127) / 128 on 0..255.
INPUT_MEAN: Final = 127.0
INPUT_SCALE: Final = 128.0
AT_ONCE: Final = 32  # pictures


def load_network(device: torch.device) -> EfficientNet:
    """The network with its ImageNet classifier, in evaluation mode and float32.

    Takes what `prepare` gives, (B, 3, 224, 224), and returns (B, 1000) logits. Raises ModelError when the
    installed package holds other weights.
    """
    with torch.random.fork_rng(devices=[]):
        network = timm.create_model(NETWORK)
    assert isinstance(network, EfficientNet)
    network.load_state_dict(packaged_weights(NETWORK))
    network.eval().requires_grad_(False)
    return network.to(device).to(memory_format=torch.channels_last)


def prepare(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 to (B, 3, 224, 224) float32 as the network wants it: bicubic, antialiased."""
    resized = F.interpolate(
        images.float(), size=(INPUT_SIDE, INPUT_SIDE), mode="bicubic", antialias=True, align_corners=False
    )
    return (resized.clamp(0, 255) - INPUT_MEAN) / INPUT_SCALE


@torch.inference_mode()
def extract(
    network: EfficientNet, images: Tensor, on_batch: Callable[[int], None] = lambda pictures: None
) -> NDArray[np.float32]:
    """Features of (N, 3, H, W) uint8 pictures: (N, 1280) float32, the means of the last feature maps.

    `on_batch` is told the size of every batch that is done. Costs about 30 ms a picture on one core.
    """
    device = next(network.parameters()).device
    found = np.empty((len(images), FEATURES), dtype=np.float32)
    for first in range(0, len(images), AT_ONCE):
        batch = images[first : first + AT_ONCE]
        prepared = prepare(batch.to(device)).contiguous(memory_format=torch.channels_last)
        maps = network.forward_features(prepared)
        found[first : first + len(batch)] = network.forward_head(maps, pre_logits=True).cpu().numpy()
        on_batch(len(batch))
    return found
