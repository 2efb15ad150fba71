"""The settings of a training, in groups.

Durations are counted in training images, so that they do not depend on the batch size. A "share" lies between
0 and 1. Each group checks the range of its own values. `toygan.training.checks.check_config` checks whether
the family can use them; every function that makes a config calls it.
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

PERCEPTUAL_MAPS = 4  # the number of feature maps of the perceptual loss's network

# These options of the networks are determined by the photos and the training.
DETERMINED = ("categories", "resolution", "text_size", "accent_colours")


@dataclass(frozen=True, kw_only=True)
class ConditionSettings:
    """The settings of the conditions besides category and colour, and of the banks of texts and layouts."""

    text_encoder: str | None = None
    """Name of a text encoder, see `toygan.conditions.text`; null if the networks take no text."""
    text_smoothing: float = 0.0
    """Temperature of the text bank (`toygan.conditions.text_bank`), no unit; 0: there is no text bank."""
    accent_colours: int = 0
    """Largest number of colours beside the main colour that are taken from a title."""
    layout_bank: float = 0.0
    """Temperature of the layout bank, no unit; 0: there is no layout bank."""

    def __post_init__(self) -> None:
        _check_at_least_0(self, "text_smoothing", "accent_colours", "layout_bank")
        if self.text_smoothing and self.text_encoder is None:
            raise BadInput("text_smoothing needs a text_encoder: without it there are no texts")


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The settings for making batches of photos."""

    seed: int = 0
    """Seed of all random numbers of the training."""
    batch_size: int = 64
    """Images per step, over all processes."""
    crop: int = 128
    """Side in pixels of the squares that an enhancer learns from."""
    prior_share: float = 0.0
    """Share of a batch with random latents and predicted layouts. The discriminator scores these pictures,
    but no loss compares them with photos."""
    colour_dropout: float = 0.1
    """Share of the images for which the networks get no colours."""
    colour_mixing: float = 0.0
    """Share of the images that are shown in another colour, see `toygan.data.recolour`."""
    augmentation_ramp_images: int = 0
    """Images in which the probability of augmentation may rise from 0 to 1. With 0 all are augmented."""

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
    """The settings of the terms of both losses (`toygan.training.objectives`). A weight has no unit, and 0
    removes its term.
    """

    loss: LossName = "hinge"
    """The adversarial loss of both networks, see `toygan.training.losses`."""
    adversarial_weight: float = 1.0
    """Generator: weight of its adversarial loss; that of the discriminator is 1."""
    r1_gamma: float = 0.0
    """Discriminator: weight of its squared gradient at photos."""
    r2_gamma: float = 0.0
    """Discriminator: weight of its squared gradient at generated pictures."""
    penalty_every_steps: int = 1
    """Number of steps from one gradient penalty to the next. The penalties' weights are multiplied by it."""
    path_length_weight: float = 0.0
    """Generator: weight of path length regularisation, for families with styles."""
    feature_matching_weight: float = 0.0
    """Generator: weight of the difference to the photo in the features of the discriminator."""
    kl_weight: float = 0.0
    """Generator: weight of the divergence of encoded latents from N(0, 1); with 0 all latents are random."""
    layout_weight: float = 1.0
    """Generator: weight of the error of predicted layouts, for families that predict layouts."""
    semantic_weight: float = 0.0
    """Generator: weight of the error of the category and colours that an auxiliary classifier predicts."""
    colour_weight: float = 0.0
    """Generator: weight of the difference between the product's mean colours in picture and photo, in units
    of [-1, 1]."""
    l1_weight: float = 0.0
    """Generator: weight of the mean absolute difference to the photo, in units of [-1, 1]."""
    gradient_weight: float = 0.0
    """Generator: weight of the difference between the edges of picture and photo, at two scales, in units of
    [-1, 1]."""
    structure_weight: float = 0.0
    """Generator: weight of the dissimilarity (1 - SSIM) to the photo in the product, for families with
    snapshots."""
    ground_weight: float = 0.0
    """Generator: weight of the mean absolute difference to the photo's ground, in units of [-1, 1], for
    families with snapshots. Shadows are faint, so `l1_weight` alone teaches little about them."""
    detail_weight: float = 0.0
    """Generator: weight of the difference to the photo in how strong the fine detail of each patch is."""
    detail_energy_weight: float = 0.0
    """Generator: weight of the difference to the photos in the energy of the fine detail of a whole batch."""
    perceptual_weight: float = 0.0
    """Generator: weight of the difference to the photo in the features of a frozen ImageNet network."""
    perceptual_side: int = 128
    """Side in pixels to which smaller pictures are enlarged for the frozen ImageNet network."""
    perceptual_distance: PerceptualDistance = "directions"
    """What is compared in the ImageNet network: the "directions" of features (`perceptual_loss`) or their
    "values" (`content_loss`)."""
    perceptual_maps: int = PERCEPTUAL_MAPS
    """How many feature maps of the ImageNet network are compared, the finest first, 1 to 4."""
    perceptual_shift: int = 0
    """The most pixels by which picture and photo are moved, together and at random, before they are compared
    in the ImageNet network. It reduces pictures in steps of 2 pixels. If these steps always fall on the same
    pixels, generators learn a pattern of 2 pixels."""

    def __post_init__(self) -> None:
        weights = [each.name for each in fields(self) if each.name.endswith(("_weight", "_gamma"))]
        _check_at_least_0(self, *weights)
        _check_at_least_0(self, "perceptual_shift")
        _check_above_0(self, "penalty_every_steps", "perceptual_side", "perceptual_maps")
        _check_choice(self, "loss", get_args(LossName))
        _check_choice(self, "perceptual_distance", get_args(PerceptualDistance))
        if self.perceptual_maps > PERCEPTUAL_MAPS:
            raise BadInput(f"perceptual_maps is {self.perceptual_maps}; it must be at most {PERCEPTUAL_MAPS}")


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The settings for updating weights."""

    generator_lr: float = 2e-4
    """Learning rate of Adam for the generator, no unit."""
    discriminator_lr: float = 4e-4
    """Learning rate of Adam for the discriminator, no unit; twice the generator's: Heusel et al. 2017."""
    adam_betas: tuple[float, float] = (0.5, 0.999)
    """Decay rates of Adam's first and second moment, per step."""
    ema_half_life_images: float = 10_000
    """Images in which an old weight's share in the moving average halves. The model keeps the average."""
    precision: PrecisionChoice = "auto"
    """Precision of convolutions and matrix products: "fp32", "bf16", "fp16", or "auto" for the fastest on the
    device. Weights are always float32."""

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
    """The settings of the learning rates over time, see `toygan.training.schedule`."""

    lr_warmup_images: int = 0
    """Number of images at the start of a training in which both learning rates rise from 0."""
    lr_decay_images: int = 0
    """Number of images after which both learning rates have fallen to nearly 0; with 0 they stay constant."""

    def __post_init__(self) -> None:
        _check_at_least_0(self, "lr_warmup_images", "lr_decay_images")


@dataclass(frozen=True, kw_only=True)
class LoggingSettings:
    """The settings for the frequency of log lines and checkpoints."""

    log_every_images: int = 6_400
    """Number of images from one line of the log to the next."""
    checkpoint_every_images: int = 64_000
    """Number of images from one checkpoint to the next."""

    def __post_init__(self) -> None:
        _check_above_0(self, "log_every_images", "checkpoint_every_images")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of one training."""

    family: str
    """Name of a model family in `toygan.models`, such as "dcgan"."""
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
            raise BadInput(
                f"network holds {', '.join(given)}; leave it out, because photos and training determine it"
            )

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
        """Returns the config of the networks. Raises ValueError for options that the family does not have."""
        from toygan.models import network_config  # the families import torch

        return network_config(self.family, self.network_options(categories=categories, text_size=text_size))

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Reads what `to_json` returned. Missing options and groups take their defaults.

        Raises BadInput for an unusable value and for an unknown option. The message lists the known options.
        If the option exists in a group, the message names the group instead.
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
    """Returns the JSON `values` of a config with `changes`.

    In groups and in `network`, single options are replaced.
    """
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
