"""Trains the network that finds products in snapshots; a companion of a studio."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toygan.models.mask_network import BACKBONE, MaskNetwork
from toygan.training.batches import Batch

EDGE_WEIGHT = 3.0  # of a pixel beside the product's edge, besides 1
EDGE_REACH = 7  # pixels a side of the neighbourhood with both product and ground
SMOOTHING = 50.0  # pixels that keep the overlap of an empty mask defined


def fresh_mask_network() -> MaskNetwork:
    """Returns a network whose encoder has the weights of ImageNet; the rest is from torch's generator."""
    from toygan.artifact.backbone_weights import pretrained_weights

    network = MaskNetwork()
    weights = pretrained_weights(BACKBONE)
    kept = network.encoder.network
    kept.load_state_dict({key: weights[key] for key in kept.state_dict()})
    return network


def mask_loss(network: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy, with more weight at edges, plus 1 - the soft overlap (Rahman and Wang 2016, eq. 3)."""
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
