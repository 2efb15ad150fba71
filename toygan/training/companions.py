"""Networks that are trained beside generator and discriminator, on the photos of each step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from toygan.models.layers import Conditions
from toygan.training.auxiliary_classifier import AuxiliaryClassifier, semantic_loss
from toygan.training.batches import Batch
from toygan.training.config import TrainConfig
from toygan.training.layout_predictor import drawing_loss, fresh_segmenter
from toygan.training.mask_network import fresh_mask_network, mask_loss

AUXILIARY_CLASSIFIER: Final = "auxiliary_classifier"
LAYOUT_PREDICTOR: Final = "layout_predictor"
MASK_NETWORK: Final = "mask_network"
COMPANION_LR: Final = 1e-3

CompanionLoss = Callable[[nn.Module, Batch], Tensor]


@dataclass(kw_only=True)
class Companion:
    """A network with its loss and optimizer."""

    network: nn.Module
    loss: CompanionLoss
    optimizer: torch.optim.Optimizer


def fresh_companions(
    config: TrainConfig, *, categories: int, with_layout_predictor: bool
) -> dict[str, tuple[nn.Module, CompanionLoss]]:
    """Returns the companions of a training, by name, with their losses.

    Their weights come from torch's global generator. There is an auxiliary classifier if `semantic_weight` is
    above 0, a mask network if the family needs snapshots, and a layout predictor if `with_layout_predictor`
    is true.
    """
    companions: dict[str, tuple[nn.Module, CompanionLoss]] = {}
    if config.objective.semantic_weight:
        classifier = AuxiliaryClassifier(
            categories=categories, accent_colours=config.conditions.accent_colours
        )
        companions[AUXILIARY_CLASSIFIER] = (classifier, _of_photos(semantic_loss))
    if with_layout_predictor:
        segmenter = fresh_segmenter(config.networks().layout_classes)
        companions[LAYOUT_PREDICTOR] = (segmenter, _of_photos(drawing_loss))
    if config.networks().image_condition == "photo":
        companions[MASK_NETWORK] = (fresh_mask_network(), mask_loss)
    return companions


def _of_photos(loss: Callable[[Any, Conditions], Tensor]) -> CompanionLoss:
    """Makes the loss function of a network that learns from the photos and their conditions."""
    return lambda network, batch: loss(network(batch.real), batch.conditions)
