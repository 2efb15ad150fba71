"""The state of a training, and its start."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from toygan.conditions.labelled_colours import LabelledColours
from toygan.data.augment import AdaptiveAugmentation
from toygan.models import build
from toygan.models.colour_map import ColourMap
from toygan.models.embedding import ConditionEmbedding
from toygan.models.layers import ConditionalDiscriminator, ConditionalGenerator, PretrainedDiscriminator
from toygan.models.mask_network import MaskNetwork
from toygan.models.segmenter import Segmenter
from toygan.models.studio import StudioLight
from toygan.training.auxiliary_classifier import AuxiliaryClassifier
from toygan.training.companions import (
    AUXILIARY_CLASSIFIER,
    COMPANION_LR,
    LAYOUT_PREDICTOR,
    MASK_NETWORK,
    Companion,
    fresh_companions,
)
from toygan.training.config import TrainConfig
from toygan.training.distributed import ALONE, Distributed
from toygan.training.guard import Guard
from toygan.training.mask_network import load_imagenet

if TYPE_CHECKING:
    from toygan.models.backbone import Backbone

# timm's name of the network; evaluation uses another network, Lite0
PERCEPTUAL_BACKBONE: Final = "tf_efficientnet_lite1"


@dataclass(kw_only=True)
class TrainState:
    """Everything that `fit` changes."""

    generator: ConditionalGenerator
    discriminator: ConditionalDiscriminator
    ema: ConditionalGenerator  # the moving average of the generator, which the model keeps
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    companions: dict[str, Companion] = field(default_factory=dict)  # keyed by their names in a checkpoint
    perceptual: "Backbone | None" = None  # a frozen network; None if perceptual_weight is 0
    scalers: dict[str, torch.amp.GradScaler] = field(default_factory=dict)  # scale the losses for fp16
    guard: Guard = field(default_factory=Guard)
    augmentation: AdaptiveAugmentation | None = None  # None if augmentation_ramp_images is 0
    images_seen: int = 0
    distributed: Distributed = ALONE

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The networks of the model: generator, discriminator and average."""
        return {"generator": self.generator, "discriminator": self.discriminator, "ema": self.ema}

    @property
    def auxiliary_classifier(self) -> AuxiliaryClassifier | None:
        """The auxiliary classifier among the companions; None if semantic_weight is 0."""
        found = self.companions.get(AUXILIARY_CLASSIFIER)
        return found.network if found and isinstance(found.network, AuxiliaryClassifier) else None

    @property
    def layout_predictor(self) -> Segmenter | None:
        """The layout predictor among the companions; None if this training trains no layout predictor."""
        found = self.companions.get(LAYOUT_PREDICTOR)
        return found.network if found and isinstance(found.network, Segmenter) else None

    @property
    def mask_network(self) -> MaskNetwork | None:
        """The mask network among the companions; None if the family needs no snapshots."""
        found = self.companions.get(MASK_NETWORK)
        return found.network if found and isinstance(found.network, MaskNetwork) else None

    @property
    def modules(self) -> dict[str, nn.Module]:
        """All modules whose weights a checkpoint contains."""
        modules = self.networks | {name: each.network for name, each in self.companions.items()}
        return modules if self.augmentation is None else modules | {"augmentation": self.augmentation}

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
            **{f"{name}_optimizer": each.optimizer for name, each in self.companions.items()},
        }

    @property
    def extras(self) -> dict[str, Any]:
        """The JSON values that a checkpoint contains besides tensors."""
        scalers = {name: scaler.state_dict() for name, scaler in self.scalers.items()}
        return {
            "guard": self.guard.to_json(),
            "scalers": {name: each for name, each in scalers.items() if each},
        }

    def load_extras(self, extras: dict[str, Any]) -> None:
        """Loads the values of `extras`. Missing values keep their defaults."""
        self.guard = Guard.from_json(extras.get("guard", {}))
        for name, values in extras.get("scalers", {}).items():
            self.scalers[name].load_state_dict(values)


def start(
    config: TrainConfig,
    *,
    categories: int,
    device: torch.device,
    texts: Tensor | None = None,
    labelled: LabelledColours | None = None,
    with_layout_predictor: bool = False,
    shown: tuple[Tensor, Tensor] | None = None,
    distributed: Distributed = ALONE,
) -> TrainState:
    """Makes new networks and optimizers. They depend on the arguments only.

    `texts` (N, text_size) float32 are the embeddings of the photos' texts, for networks that take them.
    `labelled` maps colours to their labels in the layouts. `shown` is what
    `toygan.training.studio_light.shown_colours` returns. `with_layout_predictor` adds a layout predictor.

    Raises ValueError for unusable networks, and ModelError if the weights of a pretrained part cannot be
    found.
    """
    text_size = 0 if texts is None else texts.shape[1]
    options = config.network_options(categories=categories, text_size=text_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.data.seed)
        generator, discriminator = build(config.family, options)
        companions = fresh_companions(
            config, categories=categories, with_layout_predictor=with_layout_predictor
        )
    _fit_to_photos(generator, discriminator, texts, labelled)
    if shown is not None:
        _fit_studio_light(generator, *shown)
    perceptual = _perceptual_backbone(config) if config.objective.perceptual_weight else None
    for network in (generator, discriminator, perceptual, *(each for each, _ in companions.values())):
        if network is not None:
            network.to(device).to(memory_format=torch.channels_last)
    generator = distributed.synchronise_norms(generator)
    discriminator = distributed.synchronise_norms(discriminator)
    state = TrainState(
        generator=generator,
        discriminator=discriminator,
        ema=deepcopy(generator).eval().requires_grad_(False),
        generator_optimizer=_adam(generator, config.optimizer.generator_lr, config),
        discriminator_optimizer=_adam(discriminator, config.optimizer.discriminator_lr, config),
        companions={
            name: Companion(network=network, loss=loss, optimizer=_adam(network, COMPANION_LR, config))
            for name, (network, loss) in companions.items()
        },
        augmentation=_adaptive_augmentation(config),
        perceptual=perceptual,
        distributed=distributed,
    )
    is_scaled = config.optimizer.precision == "fp16"
    state.scalers = {name: torch.amp.GradScaler(device.type, enabled=is_scaled) for name in state.optimizers}
    return state


def _fit_to_photos(
    generator: ConditionalGenerator,
    discriminator: ConditionalDiscriminator,
    texts: Tensor | None,
    labelled: LabelledColours | None,
) -> None:
    """Fits the whitening and the colour map to the photos, and loads the weights of a pretrained part."""
    if texts is not None:
        _fit_whitening((generator, discriminator), texts)
    if labelled is not None:
        _fit_colour_map(generator, labelled)
    if isinstance(discriminator, PretrainedDiscriminator):
        _load_pretrained(discriminator)
    load_imagenet(generator)


def _adaptive_augmentation(config: TrainConfig) -> AdaptiveAugmentation | None:
    ramp_images = config.data.augmentation_ramp_images
    return AdaptiveAugmentation(ramp_images=ramp_images) if ramp_images else None


def _load_pretrained(discriminator: PretrainedDiscriminator) -> None:
    from toygan.artifact.backbone_weights import pretrained_weights

    file = Path(discriminator.pretrained_file) if discriminator.pretrained_file else None
    discriminator.load_pretrained(pretrained_weights(discriminator.pretrained_name, file))


def _perceptual_backbone(config: TrainConfig) -> "Backbone":
    from toygan.artifact.backbone_weights import pretrained_weights
    from toygan.models.backbone import create_backbone

    backbone = create_backbone(PERCEPTUAL_BACKBONE, config.objective.perceptual_maps)
    weights = pretrained_weights(PERCEPTUAL_BACKBONE)
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


def _fit_studio_light(generator: nn.Module, given: Tensor, shown: Tensor) -> None:
    for module in generator.modules():
        if isinstance(module, StudioLight):
            module.fit(given, shown)


def _adam(network: nn.Module, lr: float, config: TrainConfig) -> torch.optim.Optimizer:
    parameters = [each for each in network.parameters() if each.requires_grad]
    return torch.optim.Adam(parameters, lr=lr, betas=config.optimizer.adam_betas, fused=True)
