"""The state of a training, and its start."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from toygan.data.augment import AdaptiveAugmentation
from toygan.data.recolour import LabelledColours
from toygan.errors import BadInput
from toygan.models import build, network_config
from toygan.models.colour_map import ColourMap
from toygan.models.layers import (
    ConditionalDiscriminator,
    ConditionalGenerator,
    ConditionEmbedding,
    PretrainedDiscriminator,
    StyledGenerator,
    StyleEncodingGenerator,
)
from toygan.models.segmenter import Segmenter
from toygan.models.spade import SpadeConfig
from toygan.training.auxiliary_classifier import AuxiliaryClassifier
from toygan.training.config import TrainConfig
from toygan.training.distributed import ALONE, Distributed
from toygan.training.guard import Guard
from toygan.training.layout_predictor import fresh_segmenter

if TYPE_CHECKING:
    from toygan.models.backbone import Backbone

AUXILIARY_CLASSIFIER_RATE = 1e-3
LAYOUT_PREDICTOR_RATE = 1e-3


@dataclass(kw_only=True)
class TrainState:
    """All that `fit` changes."""

    generator: ConditionalGenerator
    discriminator: ConditionalDiscriminator
    ema: ConditionalGenerator  # average of the generator; the model keeps this one
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    auxiliary_classifier: AuxiliaryClassifier | None = None  # with a semantic_weight
    auxiliary_classifier_optimizer: torch.optim.Optimizer | None = None
    layout_predictor: Segmenter | None = None  # if the training has to train one
    layout_predictor_optimizer: torch.optim.Optimizer | None = None
    perceptual: "Backbone | None" = None  # frozen; with a perceptual_weight
    scalers: dict[str, torch.amp.GradScaler] = field(default_factory=dict)  # of the losses, for fp16
    guard: Guard = field(default_factory=Guard)
    augmentation: AdaptiveAugmentation | None = None  # with adaptive_augmentation
    images_seen: int = 0
    distributed: Distributed = ALONE

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The networks of the model."""
        return {"generator": self.generator, "discriminator": self.discriminator, "ema": self.ema}

    @property
    def modules(self) -> dict[str, nn.Module]:
        optional = {
            "auxiliary_classifier": self.auxiliary_classifier,
            "layout_predictor": self.layout_predictor,
            "augmentation": self.augmentation,
        }
        return self.networks | {name: module for name, module in optional.items() if module is not None}

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        optimizers = {
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }
        if self.auxiliary_classifier_optimizer is not None:
            optimizers["auxiliary_classifier_optimizer"] = self.auxiliary_classifier_optimizer
        if self.layout_predictor_optimizer is not None:
            optimizers["layout_predictor_optimizer"] = self.layout_predictor_optimizer
        return optimizers

    @property
    def extras(self) -> dict[str, Any]:
        """The JSON values that a checkpoint has besides tensors."""
        scalers = {name: scaler.state_dict() for name, scaler in self.scalers.items()}
        return {
            "guard": self.guard.to_json(),
            "scalers": {name: each for name, each in scalers.items() if each},
        }

    def load_extras(self, extras: dict[str, Any]) -> None:
        """Loads the values of `extras`; missing ones keep their defaults."""
        self.guard = Guard.from_json(extras.get("guard", {}))
        for name, values in extras.get("scalers", {}).items():
            self.scalers[name].load_state_dict(values)


def start(
    config: TrainConfig,
    *,
    categories: int,
    device: torch.device,
    text_size: int = 0,
    texts: Tensor | None = None,
    labelled: LabelledColours | None = None,
    learns_to_draw: bool = False,
    distributed: Distributed = ALONE,
) -> TrainState:
    """Makes new networks and optimizers. They depend on the arguments only.

    `texts` (N, text_size) float32 are the embeddings of the photos' texts, for networks that whiten them.
    `labelled` has the colours with a label in the layouts. `learns_to_draw` adds a layout predictor.

    Raises ValueError for unusable networks, BadInput for a loss that the family cannot use, and ModelError
    if the weights of a pretrained part cannot be found.
    """
    options = config.network_options(categories=categories, text_size=text_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        generator, discriminator = build(config.family, options)
        auxiliary_classifier = None
        if config.semantic_weight:
            auxiliary_classifier = AuxiliaryClassifier(
                categories=categories, accent_colours=config.accent_colours
            )
        layout_predictor = None
        if learns_to_draw:
            networks = network_config(config.family, options)
            assert isinstance(networks, SpadeConfig)
            layout_predictor = fresh_segmenter(networks.layout_classes)
    _check_losses(config, generator)
    if texts is not None:
        _fit_whitening((generator, discriminator), texts)
    if labelled is not None:
        _fit_colour_map(generator, labelled)
    if isinstance(discriminator, PretrainedDiscriminator):
        _load_pretrained(discriminator)
    perceptual = _perceptual_backbone(config) if config.perceptual_weight else None
    for network in (generator, discriminator, auxiliary_classifier, layout_predictor, perceptual):
        if network is not None:
            network.to(device).to(memory_format=torch.channels_last)
    generator = distributed.synchronise_norms(generator)
    discriminator = distributed.synchronise_norms(discriminator)
    state = TrainState(
        generator=generator,
        discriminator=discriminator,
        ema=deepcopy(generator).eval().requires_grad_(False),
        generator_optimizer=_adam(generator, config.generator_lr, config),
        discriminator_optimizer=_adam(discriminator, config.discriminator_lr, config),
        auxiliary_classifier=auxiliary_classifier,
        auxiliary_classifier_optimizer=None
        if auxiliary_classifier is None
        else _adam(auxiliary_classifier, AUXILIARY_CLASSIFIER_RATE, config),
        layout_predictor=layout_predictor,
        layout_predictor_optimizer=None
        if layout_predictor is None
        else _adam(layout_predictor, LAYOUT_PREDICTOR_RATE, config),
        augmentation=_adaptive_augmentation(config),
        perceptual=perceptual,
        distributed=distributed,
    )
    is_scaled = config.precision == "fp16"
    state.scalers = {name: torch.amp.GradScaler(device.type, enabled=is_scaled) for name in state.optimizers}
    return state


def _adaptive_augmentation(config: TrainConfig) -> AdaptiveAugmentation | None:
    if not config.adaptive_augmentation:
        return None
    return AdaptiveAugmentation(
        target=config.augmentation_target, ramp_images=config.augmentation_ramp_images
    )


def _load_pretrained(discriminator: PretrainedDiscriminator) -> None:
    from toygan.artifact.backbone_weights import pretrained_weights

    file = Path(discriminator.pretrained_file) if discriminator.pretrained_file else None
    discriminator.load_pretrained(pretrained_weights(discriminator.pretrained_name, file))


def _perceptual_backbone(config: TrainConfig) -> "Backbone":
    from toygan.artifact.backbone_weights import pretrained_weights
    from toygan.models.backbone import create_backbone

    name = config.perceptual_backbone
    backbone = create_backbone(name, config.perceptual_maps)
    weights = pretrained_weights(name)
    backbone.network.load_state_dict({key: weights[key] for key in backbone.network.state_dict()})
    return backbone


def _fit_whitening(networks: Iterable[nn.Module], texts: Tensor) -> None:
    said = texts[texts.any(dim=1)]
    for network in networks:
        for module in network.modules():
            if isinstance(module, ConditionEmbedding):
                module.fit_whitening(said)


def _fit_colour_map(generator: nn.Module, labelled: LabelledColours) -> None:
    for module in generator.modules():
        if isinstance(module, ColourMap):
            module.fit(labelled.colours, torch.tensor(labelled.labels))


def _check_losses(config: TrainConfig, generator: ConditionalGenerator) -> None:
    if config.path_length_weight and not isinstance(generator, StyledGenerator):
        raise BadInput(
            f"path_length_weight is {config.path_length_weight}; {config.family} has no styles, leave it at 0"
        )
    if config.kl_weight and not isinstance(generator, StyleEncodingGenerator):
        raise BadInput(f"kl_weight is {config.kl_weight}; {config.family} encodes no style, leave it at 0")


def _adam(network: nn.Module, rate: float, config: TrainConfig) -> torch.optim.Optimizer:
    parameters = [each for each in network.parameters() if each.requires_grad]
    return torch.optim.Adam(parameters, lr=rate, betas=config.adam_betas, fused=True)
