"""Runs the network of a probe with onnxruntime; see `toygan.artifact.compiled_network`."""

from pathlib import Path

import torch
from torch import Tensor, nn

from toygan.artifact.compiled_network import ENGINE, CompiledNetwork, exported
from toygan.artifact.probe_weights import BACKBONE


class CompiledExtractor(nn.Module):
    """Extracts the features of `toygan.artifact.feature_extractor` with onnxruntime."""

    engine = ENGINE

    def __init__(self, side: int, resolution: int, *, folder: Path | None = None) -> None:
        """Loads the exported network, or exports it.

        `resolution` is the side of the pictures in pixels. Pictures smaller than `side` pixels are enlarged
        to `side`. The exported network is kept in `folder`, by default a folder below the user's cache
        folder.
        """
        super().__init__()

        def export() -> bytes:
            from toygan.artifact.feature_extractor import FeatureExtractor

            example = torch.zeros(2, 3, resolution, resolution)
            return exported(FeatureExtractor(side), (example,), {"images": {0: "pictures"}})

        self._network = CompiledNetwork(f"{BACKBONE} {side} {resolution}", export, folder=folder)

    @property
    def size(self) -> int:
        """K, the number of features."""
        return self._network.channels

    def forward(self, images: Tensor) -> Tensor:
        """Maps (B, 3, R, R) float32 in [-1, 1] to features (B, K) float32."""
        return self._network.run(images=images)
