"""How different two pictures look: learned perceptual distances (Zhang et al. 2018, LPIPS).

On the feature maps of EfficientNet-Lite0 instead of AlexNet's, and without their weights fitted to people's
outputs, which would have to be downloaded: eq. 1 with every weight 1, as the paper's untuned networks.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models import EfficientNet
from torch import Tensor

from toygan.evaluation.features import AT_ONCE, prepare
from toygan.training.losses import layer_distances


@torch.inference_mode()
def perceptual_distances(
    network: EfficientNet,
    first: Tensor,
    second: Tensor,
    on_batch: Callable[[int], None] = lambda pictures: None,
) -> NDArray[np.float64]:
    """Of N pairs of pictures, both (N, 3, H, W) uint8: (N,), 0 for equal pictures.

    `on_batch` is told how many pictures are done, two a pair.
    """
    device = next(network.parameters()).device
    found = np.empty(len(first))
    half = AT_ONCE // 2
    for start in range(0, len(first), half):
        pairs = [each[start : start + half].to(device) for each in (first, second)]
        prepared = prepare(torch.cat(pairs)).contiguous(memory_format=torch.channels_last)
        maps = network.forward_intermediates(prepared, intermediates_only=True)
        assert isinstance(maps, list)
        layers = [layer_distances(*each.chunk(2)) for each in maps]
        found[start : start + half] = torch.stack(layers).sum(dim=0).cpu().numpy()
        on_batch(len(prepared))
    return found
