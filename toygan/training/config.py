"""The options of a training, and the presets of the model families."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

from toygan.device import Precision
from toygan.errors import BadInput
from toygan.options import from_options

DEFAULT_MAX_IMAGES = 1_000_000  # the length of a training that has no limit in images or minutes

PerceptualDistance = Literal["directions", "values"]
LossName = Literal["minimax", "non_saturating", "hinge", "least_squares", "wasserstein", "relativistic"]
PrecisionChoice = Literal["auto", Precision]  # auto: the fastest on the device, see toygan.device

_WEIGHTS = (
    "r1_gamma",
    "r2_gamma",
    "wgan_lambda",
    "path_length_weight",
    "l1_weight",
    "feature_matching_weight",
    "perceptual_weight",
    "kl_weight",
    "semantic_weight",
    "colour_weight",
    "layout_weight",
)
_ABOVE_0 = (
    "batch_size",
    "penalty_every_steps",
    "path_length_every_steps",
    "ema_half_life_images",
    "log_every_images",
    "checkpoint_every_images",
    "augmentation_ramp_images",
    "perceptual_side",
    "perceptual_maps",
    "crop",
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The options of one training.

    Lengths of time are counted in training images, so that they do not depend on the batch size. A "share"
    lies between 0 and 1. A weight multiplies one term of the generator's loss unless its comment says
    otherwise; 0 removes the term.
    """

    # Networks
    family: str  # a name in toygan.models, such as "dcgan"
    resolution: int  # pixels per side of the generated pictures
    network: dict[str, Any] = field(default_factory=dict)  # the family's own options, such as widths
    text_encoder: str | None = None  # a name in toygan.conditions.text; None: the networks get no text
    accent_colours: int = 0  # the most accent colours that a title gives the networks
    layout_bank: float = (
        0.0  # temperature of toygan.artifact.layout_bank, without unit; 0: the model has no bank
    )
    text_smoothing: float = 0.0  # temperature of toygan.conditions.text_bank, without unit; 0: no bank

    # Data
    seed: int = 0  # of all random numbers
    batch_size: int = 64  # images per step, over all processes
    crop: int = 128  # pixels per side of the squares that an enhancer learns from
    prior_share: float = 0.0  # share of a batch with random latents; it is not compared with the photos
    text_dropout: float = 0.1  # share of the training images that are shown without their text
    colour_dropout: float = 0.1  # share of the training images that are shown without their colours
    colour_mixing: float = 0.0  # share of the training images in another colour, see toygan.data.recolour
    adaptive_augmentation: bool = False  # True: with a probability that adapts; False: to every image
    augmentation_target: float = 0.6  # the mean sign of the photos' scores, -1 to 1, that adaptation aims at
    augmentation_ramp_images: float = 500_000  # images in which the probability can rise from 0 to 1

    # Adversarial loss
    adversarial: bool = True  # False: no discriminator takes part; the generator learns from the photos alone
    loss: LossName = "hinge"  # see toygan.training.losses
    r1_gamma: float = 0.0  # discriminator: weight of its squared gradient at photos
    r2_gamma: float = 0.0  # discriminator: weight of its squared gradient at generated pictures
    wgan_lambda: float = 10.0  # discriminator: weight of the gradient penalty of the loss "wasserstein"
    penalty_every_steps: int = 1  # interval of these penalties, steps; it multiplies their weights
    path_length_weight: float = 0.0  # weight of path length regularisation, for families with styles
    path_length_every_steps: int = 4  # steps from one path length penalty to the next

    # Other losses of the generator
    l1_weight: float = 0.0  # mean absolute difference to the photo, in units of [-1, 1]
    feature_matching_weight: float = 0.0  # the same for the features of the discriminator
    perceptual_weight: float = 0.0  # difference to the photo in the features of an ImageNet network
    perceptual_backbone: str = "tf_efficientnet_lite1"  # that network's name in timm; evaluation uses Lite0
    perceptual_side: int = 128  # pixels; smaller pictures are enlarged to this side for that network
    perceptual_distance: PerceptualDistance = "directions"  # or "values", see toygan.training.losses
    perceptual_maps: int = 4  # number of that network's feature maps, finest first; 1 to 4
    kl_weight: float = 0.0  # divergence of the style encoder's latents from a standard normal; 0: no encoder
    semantic_weight: float = 0.0  # error of category and colours as read from the picture
    colour_weight: float = 0.0  # difference of the product's mean colour to the photo's
    layout_weight: float = 1.0  # error of the layout, for generators that generate one first

    # Optimizer
    generator_lr: float = 2e-4  # learning rate of Adam
    discriminator_lr: float = 4e-4  # learning rate of Adam; twice the generator's as in Heusel et al. 2017
    adam_betas: tuple[float, float] = (0.5, 0.999)  # decay rates of the first and second moment
    lr_warmup_images: int = 0  # images in which both learning rates rise from 0
    lr_decay_images: int = 0  # images after which both have fallen to nearly 0; 0: they stay constant
    ema_half_life_images: float = 10_000  # images after which the averaged weights have forgotten half
    precision: PrecisionChoice = "auto"  # of convolutions and matrix products; weights are always float32

    # Output
    log_every_images: int = 6_400  # images from one line of the log to the next
    checkpoint_every_images: int = 64_000  # images from one checkpoint to the next

    def __post_init__(self) -> None:
        for name in _ABOVE_0:
            if not getattr(self, name) > 0:
                raise BadInput(f"{name} is {getattr(self, name)}; it must be above 0")
        for name in _WEIGHTS:
            if not 0 <= getattr(self, name) < float("inf"):
                raise BadInput(f"{name} is {getattr(self, name)}; it must be 0 or a positive number")
        if not (self.adversarial or self.l1_weight or self.perceptual_weight):
            raise BadInput("without adversarial, l1_weight or perceptual_weight must be above 0")
        if self.perceptual_distance not in get_args(PerceptualDistance):
            known = ", ".join(get_args(PerceptualDistance))
            raise BadInput(f"perceptual_distance is {self.perceptual_distance!r}; it must be one of {known}")
        if self.perceptual_maps > 4:
            raise BadInput(f"perceptual_maps is {self.perceptual_maps}; the network has 4")
        if self.loss not in get_args(LossName):
            raise BadInput(f"loss is {self.loss!r}; it must be one of {', '.join(get_args(LossName))}")
        for name in ("generator_lr", "discriminator_lr"):
            if not 0 < getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}; it must lie between 0 and 1")
        if len(self.adam_betas) != 2 or not all(0 <= beta < 1 for beta in self.adam_betas):
            raise BadInput(f"adam_betas is {self.adam_betas}; it must be two numbers from 0 to below 1")
        for name in ("colour_dropout", "colour_mixing", "text_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"{name} is {getattr(self, name)}; it must lie from 0 to 1")
        for name in ("text_smoothing", "layout_bank"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise BadInput(f"{name} is {getattr(self, name)}; it must be 0 or a positive number")
        if self.text_smoothing and self.text_encoder is None:
            raise BadInput("text_smoothing needs a text_encoder: without it there are no texts")
        if not 0 <= self.prior_share < 1:
            raise BadInput(f"prior_share is {self.prior_share}; it must lie from 0 to below 1")
        if self.prior_share and not self.adversarial:
            raise BadInput(
                "prior_share is for adversarial trainings: no other loss covers the pictures that it adds"
            )
        if not -1 < self.augmentation_target < 1:
            raise BadInput(f"augmentation_target is {self.augmentation_target}; it must lie between -1 and 1")
        for name in ("lr_warmup_images", "lr_decay_images", "accent_colours"):
            if getattr(self, name) < 0:
                raise BadInput(f"{name} is {getattr(self, name)}; it must not be below 0")
        if self.precision not in get_args(PrecisionChoice):
            raise BadInput(f"precision is {self.precision!r}; it must be one of auto, fp32, bf16, fp16")
        if given := sorted({"categories", "resolution", "text_size", "accent_colours"} & self.network.keys()):
            raise BadInput(f"network holds {', '.join(given)}; the photos and the training set this")

    def network_options(self, *, categories: int, text_size: int = 0) -> dict[str, Any]:
        """Returns the options for `toygan.models.build`, which checks them."""
        return {
            **self.network,
            "resolution": self.resolution,
            "categories": categories,
            "text_size": text_size,
            "accent_colours": self.accent_colours,
        }

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Reads what `to_json` returns.

        Raises BadInput for an unknown option (the message lists the known ones) and for an unusable value.
        """
        try:
            return from_options(cls, values, owner="training")
        except ValueError as error:
            raise BadInput(str(error)) from error


# A preset has the name of its family, unless it is a variant (r3gan).
PRESETS = {
    # Equal learning rates: with twice the generator's the discriminator soon wins for good.
    "mlp": TrainConfig(family="mlp", resolution=64, loss="minimax", discriminator_lr=2e-4),
    "dcgan": TrainConfig(family="dcgan", resolution=64),
    # The loss of Huang et al. 2024 (R3GAN), not its networks: paired logits, both penalties at every step.
    "r3gan": TrainConfig(
        family="dcgan",
        resolution=64,
        loss="relativistic",
        r1_gamma=1.0,
        r2_gamma=1.0,
        generator_lr=2e-4,
        discriminator_lr=2e-4,
        adam_betas=(0.0, 0.99),
    ),
    "stylegan": TrainConfig(
        family="stylegan",
        resolution=64,
        batch_size=32,
        loss="non_saturating",
        r1_gamma=0.1,
        penalty_every_steps=16,
        path_length_weight=2.0,
        generator_lr=2.5e-3,
        discriminator_lr=2.5e-3,
        adam_betas=(0.0, 0.99),
        adaptive_augmentation=True,
        augmentation_ramp_images=100_000,  # a fifth of the paper's, because trainings on a CPU are shorter
    ),
    # The paper's learning rates. The batches are small: on a CPU many noisy steps learn more than few exact
    # ones in the same time.
    "projected": TrainConfig(
        family="projected",
        resolution=64,
        batch_size=16,
        generator_lr=2e-4,
        discriminator_lr=2e-4,
        adam_betas=(0.0, 0.99),
    ),
    # The paper's loss. Its learning rates of 2e-4 are for batches of one picture. With them the pictures are
    # still blurred after 1,000 steps of 16, and its L1 weight of 100 blurs them more than a quarter of it.
    "pix2pix": TrainConfig(
        family="pix2pix",
        resolution=64,
        batch_size=16,
        loss="non_saturating",
        generator_lr=1e-3,
        discriminator_lr=1e-3,
        l1_weight=25.0,
    ),
    "spade": TrainConfig(
        family="spade",
        resolution=64,
        batch_size=16,
        generator_lr=2e-4,
        discriminator_lr=4e-4,
        adam_betas=(0.0, 0.9),
        feature_matching_weight=10.0,
        l1_weight=10.0,
        kl_weight=0.05,
    ),
    # Each image is a crop, which takes as long as many small pictures: logs and checkpoints come sooner.
    "enhancer": TrainConfig(
        family="enhancer",
        resolution=512,
        batch_size=4,
        loss="relativistic",
        generator_lr=8e-4,
        discriminator_lr=8e-4,
        adam_betas=(0.5, 0.99),
        l1_weight=1.0,
        perceptual_weight=0.03,  # its gradients are then about five times those of the discriminator
        perceptual_distance="values",
        perceptual_maps=2,
        ema_half_life_images=2_000,
        log_every_images=800,
        checkpoint_every_images=1_600,
    ),
}


def choose_config(preset: str, *, resolution: int | None = None, file: Path | None = None) -> TrainConfig:
    """Returns a preset with the changes of a JSON file, at `resolution` pixels.

    The options in the file replace the preset's one by one, and so do those in its `network`. `resolution`
    overrides both.

    Raises BadInput for an unknown preset or option (the message lists the known ones), for an unusable value,
    and for a file that is missing or holds no JSON object.
    """
    if preset not in PRESETS:
        raise BadInput(f"unknown model family or preset {preset!r}; known are {', '.join(PRESETS)}")
    values, family = PRESETS[preset].to_json(), PRESETS[preset].family
    overrides = {} if file is None else _read_object(file)
    if isinstance(overrides.get("network"), dict):
        overrides["network"] = values["network"] | overrides["network"]
    values |= overrides
    if values["family"] != family:
        raise BadInput(f"{file} is a config of {values['family']!r}, but {family!r} is to be trained")
    if resolution is not None:
        values["resolution"] = resolution
    return TrainConfig.from_json(values)


def _read_object(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"the config {file} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise BadInput(f"the config {file} must hold a JSON object, not a {type(values).__name__}")
    return values
