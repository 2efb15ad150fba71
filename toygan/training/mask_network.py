"""Trains the network that finds products in snapshots, beside the networks of a studio."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toygan.models.lite import NAME, Encoder
from toygan.models.mask_network import MaskNetwork
from toygan.training.batches import Batch

# a pixel near the product's edge has the weight 1 + EDGE_WEIGHT, any other pixel the weight 1
EDGE_WEIGHT = 3.0
EDGE_REACH = 7  # a pixel is near the edge if its square of this side contains both product and ground
SMOOTHING = 50.0  # number of pixels added to both terms of the overlap, so that it is defined for empty masks


def fresh_mask_network() -> MaskNetwork:
    """Returns a network whose encoder has ImageNet weights.

    The other weights are random numbers of torch's global generator.
    """
    network = MaskNetwork()
    load_imagenet(network)
    return network


def load_imagenet(network: nn.Module) -> None:
    """Gives the encoders in a network their ImageNet weights."""
    encoders = [module for module in network.modules() if isinstance(module, Encoder)]
    if not encoders:
        return
    from toygan.artifact.backbone_weights import pretrained_weights

    weights = pretrained_weights(NAME)
    for encoder in encoders:
        encoder.load_state_dict({key: weights[key] for key in encoder.state_dict()})


def mask_loss(network: nn.Module, batch: Batch) -> Tensor:
    """Returns a cross-entropy in which edges have larger weights, plus 1 minus the soft overlap.

    Source of the soft overlap: Rahman and Wang 2016, eq. 3.
    """
    assert batch.free is not None
    pictures, wanted = batch.free[:, :3], (batch.free[:, 3:] + 1) / 2
    logits = network(pictures)
    reach = EDGE_REACH // 2
    near = F.max_pool2d(wanted, EDGE_REACH, 1, reach) + F.max_pool2d(1 - wanted, EDGE_REACH, 1, reach) - 1
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, weight=1 + EDGE_WEIGHT * near)
    found = torch.sigmoid(logits)
    both = (found * wanted).sum(dim=(1, 2, 3))
    either = (found + wanted - found * wanted).sum(dim=(1, 2, 3))
    overlap = (both + SMOOTHING) / (either + SMOOTHING)
    return entropy + (1 - overlap).mean()
