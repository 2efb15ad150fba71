"""Feature maps of timm's networks. `toygan.artifact.backbone_weights` has the weights.

timm imports torchvision and torch's compiler, which takes seconds. So it is imported where a network is made.
"""

from functools import cache
from typing import Any, Final, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDES: Final = (4, 8, 16, 32)  # the number of pixels of the picture per pixel of each map, along a side


class Backbone(nn.Module):
    """The part of a timm network that makes feature maps, always in evaluation mode."""

    mean: Tensor  # (3, 1, 1) float32, the mean colour of the network's training pictures in [0, 1]
    std: Tensor
    network: Any  # timm's networks have no more exact type

    def __init__(self, name: str, maps: int = len(STRIDES)) -> None:
        import timm

        super().__init__()
        self.name = name
        self.indices = _maps(name)[0][:maps]
        self.network = timm.create_model(name)
        self.network.prune_intermediate_layers(self.indices)
        for key in ("mean", "std"):
            self.register_buffer(key, torch.tensor(self.network.pretrained_cfg[key]).view(3, 1, 1))
        self.train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps (B, 3, S, S) in [-1, 1] to feature maps (B, `feature_channels`, S / stride, S / stride), fine
        to coarse.
        """
        x = ((images + 1) / 2 - self.mean) / self.std
        maps: list[Tensor] = self.network.forward_intermediates(
            x, indices=self.indices, intermediates_only=True
        )
        return maps

    def look(self, images: Tensor, *, side: int) -> list[Tensor]:
        """Returns the maps of pictures (B, 3, R, R), enlarged to `side` pixels if they are smaller.

        Pictures that need gradients are computed in float32, without autocast. Rounding to eight bits in many
        layers would destroy the gradients, and autocast would not be faster here.
        """
        if images.shape[2] < side:
            images = F.interpolate(images, size=side, mode="bilinear", align_corners=False)
        images = images.contiguous(memory_format=torch.channels_last)
        device = images.device.type
        in_half = torch.is_autocast_enabled(device) and not images.requires_grad
        with torch.autocast(device, enabled=in_half):
            maps: list[Tensor] = self(images)
        return maps

    def train(self, mode: bool = True) -> Self:
        """Ignores `mode`, so that batch normalisation keeps the statistics of ImageNet."""
        return super().train(False)


def create_backbone(name: str, maps: int = len(STRIDES)) -> Backbone:
    """Returns timm's network `name` with its first `maps` maps at `STRIDES` and frozen random weights.

    Raises ValueError as `feature_channels` does.
    """
    return Backbone(name, maps).requires_grad_(False)


def feature_channels(name: str) -> tuple[int, ...]:
    """Returns the numbers of channels of the maps of timm's network `name` at `STRIDES`.

    Raises ValueError for a name that timm does not know, and for a network without such maps.
    """
    return _maps(name)[1]


@cache
def _maps(name: str) -> tuple[list[int], tuple[int, ...]]:
    """Returns the indices of the network's maps at `STRIDES`, and their channels."""
    import timm

    if not timm.is_model(name):
        raise ValueError(f"timm has no network {name!r}; timm.list_models() names its networks")
    try:
        with torch.device("meta"):
            network: Any = timm.create_model(name)
        found = network.feature_info
        # Of several maps with the same stride, the last is the deepest.
        last = {each["reduction"]: (index, each["num_chs"]) for index, each in enumerate(found)}
        indices, channels = zip(*(last[stride] for stride in STRIDES), strict=True)
    except (AttributeError, KeyError, RuntimeError) as error:
        wanted = ", ".join(map(str, STRIDES))
        raise ValueError(
            f"timm's network {name!r} has no feature maps at the strides {wanted}; take a convolutional "
            "network, such as tf_efficientnet_lite1"
        ) from error
    return list(indices), channels
