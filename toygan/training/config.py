"""The settings of a training, in groups.

Lengths of time are counted in training images, so that they do not depend on the batch size. A "share" lies
between 0 and 1. Each group checks the range of its own values. What a family can use is checked by
`toygan.training.checks.check_config`, wherever a config is made.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from toygan.device import Precision
from toygan.errors import BadInput
from toygan.options import from_options

if TYPE_CHECKING:
    from toygan.models.layers import NetworkConfig

LossName = Literal["minimax", "non_saturating", "hinge", "relativistic"]
PerceptualDistance = Literal["directions", "values"]
PrecisionChoice = Literal["auto", Precision]

PERCEPTUAL_MAPS = 4  # feature maps of the network that the perceptual loss compares in

# Options of the networks that the photos and the training determine.
DETERMINED = ("categories", "resolution", "text_size", "accent_colours")


@dataclass(frozen=True, kw_only=True)
class ConditionSettings:
    """What the networks are given besides category and main colour, and what the model keeps of it."""

    text_encoder: str | None = None
    """Name of a text encoder in `toygan.conditions.text`; null: the networks take no text."""
    text_smoothing: float = 0.0
    """Temperature of the text bank (`toygan.conditions.text_bank`), no unit; 0: the model has none."""
    accent_colours: int = 0
    """Number of colours beside the main one that a title can give, at most."""
    layout_bank: float = 0.0
    """Temperature of the layout bank, no unit; 0: the model has none."""

    def __post_init__(self) -> None:
        _check_at_least_0(self, "text_smoothing", "accent_colours", "layout_bank")
        if self.text_smoothing and self.text_encoder is None:
            raise BadInput("text_smoothing needs a text_encoder: without it there are no texts")


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """How photos become batches."""

    seed: int = 0
    """Seed of all random numbers of the training."""
    batch_size: int = 64
    """Images per step, over all processes."""
    crop: int = 128
    """Side in pixels of the squares that an enhancer learns from."""
    prior_share: float = 0.0
    """Share of a batch with random latents and layouts. It is scored, but not compared with the photos."""
    colour_dropout: float = 0.1
    """Share of the images whose colours are withheld."""
    colour_mixing: float = 0.0
    """Share of the images that are shown in another colour, see `toygan.data.recolour`."""
    augmentation_ramp_images: int = 0
    """Images in which the probability of augmentation can rise from 0 to 1; 0: every image is augmented."""

    def __post_init__(self) -> None:
        _check_above_0(self, "batch_size", "crop")
        _check_at_least_0(self, "augmentation_ramp_images")
        for name in ("colour_dropout", "colour_mixing"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"{name} is {getattr(self, name)}; it must lie from 0 to 1")
        if not 0 <= self.prior_share < 1:
            raise BadInput(f"prior_share is {self.prior_share}; it must lie from 0 to below 1")


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings:
    """The terms of both losses (`toygan.training.objectives`). A weight has no unit; 0 removes its term."""

    loss: LossName = "hinge"
    """The adversarial loss of both networks, see `toygan.training.losses`. Its weight is 1."""
    r1_gamma: float = 0.0
    """Discriminator: weight of its squared gradient at photos."""
    r2_gamma: float = 0.0
    """Discriminator: weight of its squared gradient at generated pictures."""
    penalty_every_steps: int = 1
    """Steps from one gradient penalty to the next; it multiplies their weights."""
    path_length_weight: float = 0.0
    """Generator: weight of path length regularisation, for families with styles."""
    feature_matching_weight: float = 0.0
    """Generator: weight of the difference to the photo in the features of the discriminator."""
    kl_weight: float = 0.0
    """Generator: weight of the divergence of encoded latents from a standard normal; 0: none is encoded."""
    layout_weight: float = 1.0
    """Generator: weight of the error of the layout, for generators that predict one first."""
    semantic_weight: float = 0.0
    """Generator: weight of the error of category and colours as an auxiliary classifier finds them."""
    colour_weight: float = 0.0
    """Generator: weight of the difference of the product's mean colour to the photo's, in [-1, 1]."""
    l1_weight: float = 0.0
    """Generator: weight of the mean absolute difference to the photo, in units of [-1, 1]."""
    gradient_weight: float = 0.0
    """Generator: weight of the difference of its edges to the photo's, at two scales, in units of [-1, 1]."""
    perceptual_weight: float = 0.0
    """Generator: weight of the difference to the photo in the features of a frozen ImageNet network."""
    perceptual_side: int = 128
    """Side in pixels to which smaller pictures are enlarged for that network."""
    perceptual_distance: PerceptualDistance = "directions"
    """Compares the "directions" of features (`perceptual_loss`) or their "values" (`content_loss`)."""
    perceptual_maps: int = PERCEPTUAL_MAPS
    """Number of that network's feature maps, finest first, 1 to 4."""

    def __post_init__(self) -> None:
        weights = [each.name for each in fields(self) if each.name.endswith(("_weight", "_gamma"))]
        _check_at_least_0(self, *weights)
        _check_above_0(self, "penalty_every_steps", "perceptual_side", "perceptual_maps")
        _check_choice(self, "loss", get_args(LossName))
        _check_choice(self, "perceptual_distance", get_args(PerceptualDistance))
        if self.perceptual_maps > PERCEPTUAL_MAPS:
            raise BadInput(f"perceptual_maps is {self.perceptual_maps}; the network has {PERCEPTUAL_MAPS}")


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """How gradients become weights."""

    generator_lr: float = 2e-4
    """Learning rate of Adam for the generator, no unit."""
    discriminator_lr: float = 4e-4
    """The same for the discriminator; twice the generator's as in Heusel et al. 2017."""
    adam_betas: tuple[float, float] = (0.5, 0.999)
    """Decay rates of Adam's first and second moment, per step."""
    ema_half_life_images: float = 10_000
    """Images after which the averaged weights, which the model keeps, have forgotten half."""
    precision: PrecisionChoice = "auto"
    """Of convolutions and matrix products: "fp32", "bf16", "fp16", or "auto" for the fastest on the device.
    Weights are always float32."""

    def __post_init__(self) -> None:
        _check_above_0(self, "ema_half_life_images")
        for name in ("generator_lr", "discriminator_lr"):
            if not 0 < getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}; it must lie between 0 and 1")
        if len(self.adam_betas) != 2 or not all(0 <= beta < 1 for beta in self.adam_betas):
            raise BadInput(f"adam_betas is {self.adam_betas}; it must be two numbers from 0 to below 1")
        _check_choice(self, "precision", ("auto", *get_args(Precision)))


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
    """The learning rates over time, see `toygan.training.schedule`."""

    lr_warmup_images: int = 0
    """Images in which both learning rates rise from 0."""
    lr_decay_images: int = 0
    """Images after which both have fallen to nearly 0; 0: they stay constant."""

    def __post_init__(self) -> None:
        _check_at_least_0(self, "lr_warmup_images", "lr_decay_images")


@dataclass(frozen=True, kw_only=True)
class LoggingSettings:
    """What a training writes on its way."""

    log_every_images: int = 6_400
    """Images from one line of the log to the next."""
    checkpoint_every_images: int = 64_000
    """Images from one checkpoint to the next."""

    def __post_init__(self) -> None:
        _check_above_0(self, "log_every_images", "checkpoint_every_images")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of one training."""

    family: str
    """A name in `toygan.models`, such as "dcgan"."""
    resolution: int
    """Side in pixels of the generated pictures."""
    network: dict[str, Any] = field(default_factory=dict)
    """Options of the family's networks, such as widths; the file of the family describes them."""
    conditions: ConditionSettings = field(default_factory=ConditionSettings)
    data: DataSettings = field(default_factory=DataSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    logging: LoggingSettings = field(default_factory=LoggingSettings)

    def __post_init__(self) -> None:
        if given := sorted(set(DETERMINED) & self.network.keys()):
            raise BadInput(f"network holds {', '.join(given)}; the photos and the training set this")

    def network_options(self, *, categories: int, text_size: int = 0) -> dict[str, Any]:
        """Returns the options for `toygan.models.build`, which checks them."""
        return {
            **self.network,
            "resolution": self.resolution,
            "categories": categories,
            "text_size": text_size,
            "accent_colours": self.conditions.accent_colours,
        }

    def networks(self, *, categories: int = 1, text_size: int = 0) -> "NetworkConfig":
        """Returns the config of the networks; raises ValueError for options that they do not know."""
        from toygan.models import network_config  # the families import torch

        return network_config(self.family, self.network_options(categories=categories, text_size=text_size))

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Reads what `to_json` returns; missing options and groups keep their defaults.

        Raises BadInput for an unknown option (the message lists the known ones, or names its group) and for
        an unusable value.
        """
        for name, group in GROUPS.items():
            of_group = sorted(values.keys() & {each.name for each in fields(group)})
            if of_group:
                raise BadInput(f"training: {', '.join(of_group)} must be in the group {name!r}")
        for name, group in GROUPS.items():
            if isinstance(values.get(name), dict):
                _read(group, values[name], owner=name)
        config: Self = _read(cls, values, owner="training")
        return config


GROUPS: Mapping[str, Any] = MappingProxyType(
    {
        "conditions": ConditionSettings,
        "data": DataSettings,
        "objective": ObjectiveSettings,
        "optimizer": OptimizerSettings,
        "schedule": ScheduleSettings,
        "logging": LoggingSettings,
    }
)


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the JSON `values` of a config with `changes`, option by option within groups and `network`."""
    both = dict(values)
    for name, change in changes.items():
        before = both.get(name)
        if isinstance(before, dict) and isinstance(change, dict):
            both[name] = {**before, **change}
        else:
            both[name] = change
    return both


def _read(group: Any, values: Mapping[str, Any], *, owner: str) -> Any:
    try:
        return from_options(group, values, owner=owner)
    except ValueError as error:
        raise BadInput(str(error)) from error


def _check_above_0(group: object, *names: str) -> None:
    for name in names:
        if not getattr(group, name) > 0:
            raise BadInput(f"{name} is {getattr(group, name)}; it must be above 0")


def _check_at_least_0(group: object, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(group, name) < float("inf"):
            raise BadInput(f"{name} is {getattr(group, name)}; it must be 0 or a positive number")


def _check_choice(group: object, name: str, choices: tuple[str, ...]) -> None:
    if getattr(group, name) not in choices:
        raise BadInput(f"{name} is {getattr(group, name)!r}; it must be one of {', '.join(choices)}")
