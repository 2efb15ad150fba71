"""How a training goes. Lengths are counted in images; every value is checked where it is made."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

from toygan.device import Precision
from toygan.errors import BadInput
from toygan.options import from_options

DEFAULT_MAX_IMAGES = 1_000_000  # the length of a training that is given neither images nor minutes

PerceptualDistance = Literal["directions", "values"]
LossName = Literal["minimax", "non_saturating", "hinge", "least_squares", "wasserstein", "relativistic"]
PrecisionChoice = Literal["auto", Precision]  # auto: what the device is fastest at, see toygan.device

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
    """One training. `network` holds the options of the family's own config, such as its widths."""

    family: str
    resolution: int  # pixels
    network: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    batch_size: int = 64  # images
    loss: LossName = "hinge"
    adversarial: bool = True  # False: the generator learns from reconstruction alone, to be trained on later
    r1_gamma: float = 0.0  # weight of the penalty on the score's gradient at real pictures; 0 leaves it out
    r2_gamma: float = 0.0  # the same at generated ones
    wgan_lambda: float = 10.0  # weight of the gradient penalty that belongs to the loss "wasserstein"
    path_length_weight: float = 0.0  # of the generator's path length, for families with styles
    path_length_every_steps: int = 4
    penalty_every_steps: int = 1  # penalties are left out of the other steps and weigh as much more in these
    generator_lr: float = 2e-4
    discriminator_lr: float = 4e-4  # twice the generator's: Heusel et al. 2017
    adam_betas: tuple[float, float] = (0.5, 0.999)
    ema_half_life_images: float = 10_000
    l1_weight: float = 0.0  # of the difference to the photo, where an image or a style says what it shows
    feature_matching_weight: float = 0.0  # of the same in the discriminator's eyes
    perceptual_weight: float = 0.0  # of the same in the eyes of a network that learnt to see on ImageNet
    perceptual_backbone: str = "tf_efficientnet_lite1"  # timm's name of it; Lite0 is kept for evaluation
    perceptual_side: int = 128  # pixels that smaller pictures are enlarged to for it
    perceptual_distance: PerceptualDistance = "directions"  # or "values", see toygan.training.losses
    perceptual_maps: int = 4  # how many of its feature maps count, from the finest, of 4
    crop: int = 128  # pixels of the squares that an enhancer learns from
    kl_weight: float = 0.0  # of the style encoder's divergence from the latents that generation draws
    view_latents: bool = False  # whether the first two are a photo's azimuth and elevation, where it has them
    prior_share: float = 0.0  # share of a batch drawn as generation draws it: judged, not compared
    semantic_weight: float = 0.0  # of reading category and colour back from the picture
    colour_weight: float = 0.0  # of the difference between the product's mean colour and its photo's
    layout_weight: float = 1.0  # of the layouts of a generator that draws them first, for those that do
    adaptive_augmentation: bool = False  # see toygan.data.augment; False: every picture is moved and cut
    augmentation_target: float = 0.6  # mean sign of the scores of photos that it aims at
    augmentation_ramp_images: float = 500_000  # in which its probability can rise from 0 to 1
    text_encoder: str | None = None  # see toygan.conditions.text; None: titles play no part
    accent_colours: int = 0  # how many colours beside the main one titles may name, see Reading.words
    text_dropout: float = 0.1  # share of the training pictures whose text is withheld
    text_noise: float = 0.0  # how far texts are moved at most, as a share of the way from one text to another
    text_smoothing: float = 0.0  # above 0: the temperature of toygan.conditions.text_bank
    layout_bank: float = 0.0  # above 0: the temperature of toygan.data.layout_bank
    colour_dropout: float = 0.1  # share of the training pictures whose colours are withheld
    colour_mixing: float = 0.0  # share of the photos shown in another colour, see toygan.data.recolour
    precision: PrecisionChoice = "auto"  # of convolutions and matrix products; weights are always float32
    lr_warmup_images: int = 0  # over which both rates rise from 0, see toygan.training.schedule
    lr_decay_images: int = 0  # at which both have sunk to next to nothing; 0: they stay
    log_every_images: int = 6_400
    checkpoint_every_images: int = 64_000

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
        for name in ("colour_dropout", "colour_mixing", "text_dropout", "text_noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"{name} is {getattr(self, name)}; it must lie from 0 to 1")
        for name in ("text_smoothing", "layout_bank"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise BadInput(f"{name} is {getattr(self, name)}; it must be 0 or a positive number")
        for name in ("text_noise", "text_smoothing"):
            if getattr(self, name) and self.text_encoder is None:
                raise BadInput(f"{name} needs a text_encoder: without it there are no texts")
        if not 0 <= self.prior_share < 1:
            raise BadInput(f"prior_share is {self.prior_share}; it must lie from 0 to below 1")
        if self.view_latents and not self.kl_weight:
            raise BadInput("view_latents needs a kl_weight above 0: without it all latents are drawn")
        if self.prior_share and not self.adversarial:
            raise BadInput("prior_share is for adversarial trainings: nothing else judges what it adds")
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
        """What `toygan.models.build` takes, and checks: the families are not imported here."""
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
        """Raises BadInput for an option that does not exist (naming those that do) or an unusable value."""
        try:
            return from_options(cls, values, owner="training")
        except ValueError as error:
            raise BadInput(str(error)) from error


# Named by their family; those of another name are variants of one.
PRESETS = {
    # One rate for both sides: with twice the generator's the discriminator soon wins this game for good.
    "mlp": TrainConfig(family="mlp", resolution=64, loss="minimax", discriminator_lr=2e-4),
    "dcgan": TrainConfig(family="dcgan", resolution=64),
    # Huang et al. 2024 (R3GAN), all but its networks: paired logits, both penalties at every step.
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
        augmentation_ramp_images=100_000,  # a fifth of the paper's: so are trainings on a CPU shorter
    ),
    # The paper's rates. Small batches: on a CPU steps are dearer than the noise in them.
    "projected": TrainConfig(
        family="projected",
        resolution=64,
        batch_size=16,
        generator_lr=2e-4,
        discriminator_lr=2e-4,
        adam_betas=(0.0, 0.99),
    ),
    # The paper's loss. Its rates, 2e-4, are for batches of one picture; after 1,000 steps of 16 the pictures
    # are still blurred with them, and with its L1 weight of 100 more so than with a quarter of it.
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
    # Each image is a crop. Shorter logs and checkpoints: one costs as much as many small pictures.
    "enhancer": TrainConfig(
        family="enhancer",
        resolution=512,
        batch_size=4,
        loss="relativistic",
        generator_lr=8e-4,
        discriminator_lr=8e-4,
        adam_betas=(0.5, 0.99),
        l1_weight=1.0,
        perceptual_weight=0.03,  # then its gradients are some five times those of the discriminator
        perceptual_distance="values",
        perceptual_maps=2,
        ema_half_life_images=2_000,
        log_every_images=800,
        checkpoint_every_images=1_600,
    ),
}


def choose_config(preset: str, *, resolution: int | None = None, file: Path | None = None) -> TrainConfig:
    """The preset of that name with what the JSON object in `file` says otherwise, at `resolution` pixels.

    Options in the file's `network` replace the preset's one by one. Raises BadInput for an unknown preset or
    option (naming the known ones), an unusable value, and a file that is missing or no JSON object.
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
