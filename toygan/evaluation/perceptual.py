"""Computes learned perceptual distances of pictures (Zhang et al. 2018, LPIPS).

Different from the paper: the feature maps are those of EfficientNet-Lite0, not of AlexNet. The weights that
the paper fitted to people's ratings would have to be downloaded. They are not used. The distance is eq. 1 of
the paper with all weights 1, as for its networks without fitted weights.
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
    """Returns the distances (N,) between `first` and `second`, N pictures (N, 3, H, W) uint8 each.

    Equal pictures have the distance 0. After each batch, `on_batch` is called with its number of pictures,
    two for each pair.
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
