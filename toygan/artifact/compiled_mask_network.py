"""Runs the mask network of a studio with onnxruntime; see `toygan.artifact.compiled_network`."""

from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor, nn

from toygan.artifact.compiled_network import CompiledNetwork, exported
from toygan.artifact.mask_network_file import read_mask_network
from toygan.models.mask_network import TRUNK_SIDE, MaskNetwork, small_copy


class _Look(nn.Module):
    """`MaskNetwork.look` as a module."""

    def __init__(self, network: MaskNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor, small: Tensor) -> Tensor:
        return self.network.look(pictures, small)


class CompiledMaskNetwork(nn.Module):
    """Does what `toygan.models.mask_network.MaskNetwork` does."""

    def __init__(self, content: bytes, *, folder: Path | None = None) -> None:
        """Loads the exported network of the file `content`, or exports it.

        The exported network is kept in `folder`, by default a folder below the user's cache folder. Raises
        ModelError for a file that `mask_network_file` has not written.
        """
        super().__init__()
        self._content = content
        identity = f"mask network {sha256(content).hexdigest()}"
        self._network = CompiledNetwork(identity, self._export, folder=folder)

    def forward(self, pictures: Tensor) -> Tensor:
        """Maps (B, 3, S, S) float32 in [-1, 1] to logits (B, 1, S, S) float32. S is at least 256."""
        return self._network.run(pictures=pictures, small=small_copy(pictures))

    def in_torch(self) -> MaskNetwork:
        """Returns the network of the file."""
        return read_mask_network(self._content)

    def _export(self) -> bytes:
        example = torch.zeros(2, 3, TRUNK_SIDE, TRUNK_SIDE)
        dynamic = {"pictures": {0: "pictures", 2: "side", 3: "side"}, "small": {0: "pictures"}}
        return exported(_Look(self.in_torch()), (example, example), dynamic)
