"""Extracts features of pictures with a frozen network. An evaluation computes its figures from the features.

By default the network is EfficientNet-Lite0, trained on ImageNet; see `toygan.artifact.backbone_weights`.
Figures from this network cannot be compared with those in papers, which use Inception. For such a comparison
use `Inception`; its weights must be downloaded.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Final, Literal

import numpy as np
import timm
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from timm.models import EfficientNet
from torch import Tensor

from toygan.artifact.backbone_weights import packaged_weights
from toygan.errors import BadInput, needs_extra

NETWORK: Final = "tf_efficientnet_lite0"
INPUT_SIDE: Final = 224  # pixels
FEATURES: Final = 1280
# The network was trained on inputs (x - 127) / 128, where x is in 0..255.
INPUT_MEAN: Final = 127.0
INPUT_SCALE: Final = 128.0
AT_ONCE: Final = 32  # pictures

INCEPTION_FILE: Final = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_URL: Final = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"

FeatureNetworkName = Literal["efficientnet", "inception"]
Features = NDArray[np.float32]


class FeatureNetwork(ABC):
    """A frozen network on one device."""

    name: str
    size: int  # the number of features of a picture
    device: torch.device

    @abstractmethod
    def extract_batch(self, images: Tensor) -> Tensor:
        """Maps (B, 3, H, W) uint8 on the network's device to features (B, size) float32."""

    @torch.inference_mode()
    def extract(self, images: Tensor, on_batch: Callable[[int], None] = lambda pictures: None) -> Features:
        """Returns the features of (N, 3, H, W) uint8 pictures, (N, size) float32 on the CPU.

        `on_batch` is called with the size of every finished batch.
        """
        found = np.empty((len(images), self.size), dtype=np.float32)
        for first in range(0, len(images), AT_ONCE):
            batch = images[first : first + AT_ONCE]
            found[first : first + len(batch)] = self.extract_batch(batch.to(self.device)).cpu().numpy()
            on_batch(len(batch))
        return found


class Efficientnet(FeatureNetwork):
    """Returns the means of the last feature maps of EfficientNet-Lite0. A picture takes about 30 ms on one
    core.
    """

    name = NETWORK
    size = FEATURES

    def __init__(self, device: torch.device) -> None:
        """Raises ModelError when the installed package holds other weights."""
        self.device = device
        self.network = load_network(device)

    def extract_batch(self, images: Tensor) -> Tensor:
        prepared = prepare(images).contiguous(memory_format=torch.channels_last)
        found: Tensor = self.network.forward_head(self.network.forward_features(prepared), pre_logits=True)
        return found


class Inception(FeatureNetwork):
    """Returns the 2048 pooled features of the Inception v3 of the original FID (Heusel et al. 2017)."""

    name = "inception-v3-compat"
    size = 2048

    def __init__(self, device: torch.device, weights: Path | None = None) -> None:
        """Loads the weights from the file `weights`, by default a file in the download folder of torch.

        The file is that of torch-fidelity. Raises BadInput, with the download address, if the file is missing
        or holds other weights.
        """
        with needs_extra("train", "Inception"):
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        file = weights or Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
        remedy = f"download {INCEPTION_URL} (95 MB) to that path, or leave out `--features inception`"
        if not file.is_file():
            raise BadInput(f"the weights of Inception are not at {file}; {remedy}")
        try:
            with torch.random.fork_rng(devices=[]):
                # torch unpickles only tensors by default.
                network = FeatureExtractorInceptionV3(
                    self.name, [str(self.size)], feature_extractor_weights_path=str(file)
                )
        except (AttributeError, EOFError, OSError, RuntimeError, TypeError, UnpicklingError) as error:
            raise BadInput(f"{file} does not hold the weights of Inception v3; {remedy}") from error
        self.device = device
        self.network = network.to(device)

    def extract_batch(self, images: Tensor) -> Tensor:
        (found,) = self.network(images)
        features: Tensor = found
        return features


def load_feature_network(
    name: FeatureNetworkName, device: torch.device, *, inception_weights: Path | None = None
) -> FeatureNetwork:
    """Loads a network. Raises the errors of the network's class.

    Also raises BadInput if `inception_weights` are given for another network.
    """
    if inception_weights is not None and name != "inception":
        raise BadInput(f"{inception_weights} is used only with `--features inception`; give both")
    return Efficientnet(device) if name == "efficientnet" else Inception(device, inception_weights)


def load_network(device: torch.device) -> EfficientNet:
    """Loads EfficientNet-Lite0 with its ImageNet classifier, in evaluation mode and float32.

    The network maps the output of `prepare`, (B, 3, 224, 224), to (B, 1000) logits. Raises ModelError when
    the installed package holds other weights.
    """
    with torch.random.fork_rng(devices=[]):
        network = timm.create_model(NETWORK)
    assert isinstance(network, EfficientNet)
    network.load_state_dict(packaged_weights(NETWORK))
    network.eval().requires_grad_(False)
    return network.to(device).to(memory_format=torch.channels_last)


def prepare(images: Tensor) -> Tensor:
    """Resizes (B, 3, H, W) uint8 to the network's input, (B, 3, 224, 224) float32: bicubic, antialiased."""
    resized = F.interpolate(
        images.float(), size=(INPUT_SIDE, INPUT_SIDE), mode="bicubic", antialias=True, align_corners=False
    )
    return (resized.clamp(0, 255) - INPUT_MEAN) / INPUT_SCALE
