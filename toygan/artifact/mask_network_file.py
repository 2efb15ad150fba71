"""Writes and reads the weights of a mask network: mask_network.safetensors."""

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from toygan.artifact.weights import load_weights
from toygan.errors import ModelError
from toygan.models.mask_network import MaskNetwork


def mask_network_file(network: MaskNetwork) -> bytes:
    """Returns the weights as safetensors, with the kernels in half precision."""
    tensors = {
        key: (value.half() if value.ndim > 1 and value.is_floating_point() else value).contiguous().cpu()
        for key, value in network.state_dict().items()
    }
    return save(tensors)


def read_mask_network(content: bytes) -> MaskNetwork:
    """Returns the network that `mask_network_file` wrote, in evaluation mode.

    Raises ModelError for other content.
    """
    with torch.random.fork_rng(devices=[]):
        network = MaskNetwork()
    try:
        load_weights(network, load(content))
    except SafetensorError as error:
        raise ModelError(f"the mask network cannot be read: {error}") from error
    return network.eval().requires_grad_(False)
