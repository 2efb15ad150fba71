"""Building blocks shared by the model families."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2, sqrt
from typing import ClassVar, Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toygan.conditions.colour import COLOUR_SIZE
from toygan.conditions.condition_types import ImageCondition

PaddingMode = Literal["zeros", "replicate", "reflect"]

COLOURS: Final = ("colour", "accents")  # the conditions that hold colours, the main colour first

Conditions = Mapping[str, Tensor]
"""What a picture is conditioned on, one row for each picture.

Every model takes `category` (B,) int64 in [0, categories) and `colour` (B, 4) float32, encoded by
`toygan.conditions.colour`. A model takes the following conditions only if its config asks for them:

- `accents` (B, 4 * accent_colours) float32: the colours beside the main colour, in the same encoding.
- `text` (B, text_size) float32: see `toygan.conditions.text`; zeros where a row has no text.
- `sketch` (B, 1, R, R) float32 in [-1, 1], ink at -1.
- `layout` (B, R, R) int64, one label for each pixel.
- `photo` (B, 4, R, R) float32 in [-1, 1]: a framed snapshot. The last channel is the mask, 1 in the product.
- `named_colours` (B, K, 4) float32: the colours as the catalog names them, stacked as by `given_colours`.
  Present only if a colour profile (`toygan.artifact.colour_profile`) has corrected `colour` and `accents`.
- `small` (B, 3, r, r) float32 in [-1, 1]: the picture of a first stage, for networks that enlarge it.
"""


def given_colours(conditions: Conditions) -> Tensor:
    """Returns the main colour and the accent colours, if any, stacked: (B, K, 4) float32."""
    colours = torch.cat([conditions[name] for name in COLOURS if name in conditions], dim=1)
    return colours.view(colours.shape[0], -1, COLOUR_SIZE)


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The options that all families share. Raises ValueError for a value out of range."""

    categories: int
    resolution: int = 64  # pixels, a power of two from 32
    text_size: int = 0  # the length of a text embedding; 0 if the networks take no text
    accent_colours: int = 0  # the number of colours beside the main colour

    # the type of image that the family needs; None if it needs no image
    image_condition: ClassVar[ImageCondition | None] = None
    needs_small_picture: ClassVar[bool] = False  # whether the networks enlarge pictures of another model
    has_styles: ClassVar[bool] = False  # whether the generator is a StyledGenerator
    has_features: ClassVar[bool] = False  # whether the discriminator's output has features
    # The whole-number options that may be 0. All others must be at least 1.
    may_be_0: ClassVar[tuple[str, ...]] = ("text_size", "accent_colours")

    def __post_init__(self) -> None:
        if self.resolution < 32 or self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution is {self.resolution}; it must be a power of two from 32")
        for name, value in vars(self).items():
            least = 0 if name in self.may_be_0 else 1
            if isinstance(value, int) and not isinstance(value, bool) and value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}")

    def grows_from(self, smaller: "NetworkConfig") -> bool:
        """Whether networks of this config can start from the weights of `smaller`, of half the resolution."""
        return False

    # Every family has the following properties. A family overrides them by options of the same names.

    @property
    def small_resolution(self) -> int:
        """The side in pixels of the pictures that the networks enlarge; 0 if they do not enlarge pictures."""
        return 0

    @property
    def layout_classes(self) -> int:
        """The number of labels that a layout may have; 0 if the networks use no layouts."""
        return 0

    @property
    def lines(self) -> bool:
        """Whether the networks take a sketch beside the layout."""
        return False

    @property
    def colour_map(self) -> bool:
        """Whether the networks paint a product's colours on its layout, see `toygan.models.colour_map`."""
        return False

    @property
    def style_encoder(self) -> bool:
        """Whether the generator is a StyleEncodingGenerator."""
        return False

    @property
    def predicts_layouts(self) -> bool:
        """Whether the generator is a LayoutPredictingGenerator, which predicts a layout from a sketch."""
        return self.image_condition == "sketch" and self.layout_classes > 0

    @property
    def resolutions(self) -> list[int]:
        """The sides in pixels 4, 8, ..., `resolution`."""
        return [2**power for power in range(2, int(log2(self.resolution)) + 1)]


class ConditionalGenerator(nn.Module):
    """The base of every generator. Subclasses add `forward(latents, conditions)`.

    Latents are (B, latent_size) float32, standard normal. Pictures are (B, 3, R, R) float32; real photos lie
    in [-1, 1].
    """

    latent_size: int
    # Prefixes of weight names. Weights with these names may be missing in the model that training starts
    # from; then they start fresh.
    may_be_new: ClassVar[tuple[str, ...]] = ()

    def forward_truncated(self, latents: Tensor, conditions: Conditions, truncation: float) -> Tensor:
        """Generates pictures with less variety. With `truncation` 1 the variety is unchanged, with 0 there is
        none.

        By default the latents are scaled by `truncation`.
        """
        images: Tensor = self(truncation * latents, conditions)
        return images

    def forward_in_training(self, latents: Tensor, conditions: Conditions, rng: torch.Generator) -> Tensor:
        """Generates pictures for a training step; a subclass may vary the conditions with `rng`."""
        images: Tensor = self(latents, conditions)
        return images


class StyledGenerator(ConditionalGenerator):
    """A generator with styles between latents and pictures, for path length regularisation."""

    mean_path_length: Tensor  # () float32, a running mean that training updates

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean_path_length", torch.zeros(()))

    def forward_with_styles(self, latents: Tensor, conditions: Conditions) -> tuple[Tensor, Tensor]:
        """Returns pictures and their styles, (B, layers, style_size) float32."""
        raise NotImplementedError


class StyleEncodingGenerator(ConditionalGenerator):
    """A generator with an encoder from photos to latents: Park et al. 2019 (SPADE), section 3."""

    def encode_style(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes photos, (B, 3, R, R) float32 in [-1, 1].

        Returns mean and log variance of the latents, (B, latent_size) float32 each.
        """
        raise NotImplementedError


class LayoutPredictingGenerator(ConditionalGenerator):
    """A generator that first predicts a layout and then generates the picture from it.

    Its training needs photos with layouts.
    """

    def forward_with_layouts(
        self, latents: Tensor, conditions: Conditions, known: int
    ) -> tuple[Tensor, Tensor]:
        """Generates pictures and measures the predicted layouts.

        The first `known` pictures are generated from the photos' `layout`, the others from the predicted
        layouts. Returns the pictures, and the loss of the first `known` predicted layouts, a scalar.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class DiscriminatorOutput:
    """The outputs of a discriminator for B pictures."""

    # one tensor for each head or scale, (B, ...) float32: a number or a map for each picture
    logits: tuple[Tensor, ...]
    features: tuple[Tensor, ...] = ()  # one tensor for each layer, (B, C, H, W), for feature matching

    @property
    def score(self) -> Tensor:
        """Returns (B,) float32: the mean of each head's map, averaged over the heads."""
        return torch.stack([each.float().reshape(len(each), -1).mean(1) for each in self.logits]).mean(0)


class ConditionalDiscriminator(nn.Module):
    """The base of every discriminator."""

    # Whether a logit depends on the other pictures of its batch in training. If so, photos and generated
    # pictures are scored in separate batches.
    has_batch_statistics = False

    def forward_with_features(self, images: Tensor, conditions: Conditions) -> DiscriminatorOutput:
        """Scores pictures, (B, 3, R, R) float32 in [-1, 1]. A higher logit means more like a photo."""
        raise NotImplementedError

    def forward(self, images: Tensor, conditions: Conditions) -> Tensor:
        """Returns one score for each picture, (B,) float32."""
        return self.forward_with_features(images, conditions).score


class PretrainedDiscriminator(ConditionalDiscriminator):
    """A discriminator on the features of a pretrained timm network, which stays frozen.

    The frozen network's weights are saved with the model, so that a stored model needs no download.
    """

    pretrained_name: str  # the network's name in timm
    # a safetensors file; if empty, `toygan.artifact.backbone_weights` finds the weights by the name
    pretrained_file: str

    def load_pretrained(self, weights: Mapping[str, Tensor]) -> None:
        """Loads weights of the frozen network before a training; see `toygan.artifact.backbone_weights`."""
        raise NotImplementedError


class RandomConv2d(nn.Module):
    """A convolution that keeps its first, random weights."""

    weight: Tensor

    def __init__(self, inputs: int, outputs: int, kernel_size: int) -> None:
        super().__init__()
        shape = (outputs, inputs, kernel_size, kernel_size)
        self.register_buffer("weight", torch.randn(shape) / sqrt(inputs * kernel_size**2))
        self.padding = kernel_size // 2

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) to (B, outputs, H, W)."""
        return F.conv2d(x, self.weight, padding=self.padding)


@dataclass(frozen=True, kw_only=True)
class Sections:
    """Says which condition each row (`dim` 0) or column (`dim` 1) of a weight belongs to.

    `counts` maps conditions to their numbers of rows or columns, in the order of the weight.
    """

    dim: int
    counts: Mapping[str, int]


class ConditionInput(nn.Module):
    """A layer with weights for single categories, texts, accent colours or image conditions.

    `sections` says which part of a weight belongs to which condition. So the weights can be loaded into a
    network for other categories, texts or accents.
    """

    def sections(self) -> Mapping[str, Sections]:
        """Returns the sections of each weight by the weight's name.

        Sections are called `category`, `text`, `accents`, `colour_map` (`toygan.models.colour_map`), `lines`
        (a sketch) and `layout` (a predicted layout).
        """
        raise NotImplementedError


class SilentConv2d(nn.Conv2d, ConditionInput):
    """A convolution of a per-pixel condition, which `section` names. Its weights start at zero.

    So adding the layer to a trained network does not change the network's pictures at first.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        padding_mode: PaddingMode,
        section: str,
        *,
        kernel_size: int = 3,
        stride: int = 1,
    ) -> None:
        super().__init__(
            inputs, outputs, kernel_size, stride=stride, padding=1, padding_mode=padding_mode, bias=False
        )
        nn.init.zeros_(self.weight)
        self.section = section

    def sections(self) -> Mapping[str, Sections]:
        return {"weight": Sections(dim=0, counts={self.section: self.out_channels})}


class ConditionalBatchNorm2d(nn.Module):
    """Batch normalisation whose gain and bias are linear in a condition (de Vries et al. 2017, eq. 2)."""

    def __init__(self, channels: int, condition_size: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain = nn.Linear(condition_size, channels)
        self.bias = nn.Linear(condition_size, channels)
        for linear in (self.gain, self.bias):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Maps (B, channels, H, W) and (B, condition_size) to (B, channels, H, W)."""
        gain = (1 + self.gain(condition))[:, :, None, None]
        bias = self.bias(condition)[:, :, None, None]
        normalised: Tensor = self.norm(x)
        return torch.addcmul(bias.to(x.dtype), normalised, gain.to(x.dtype))


def condition_projection(condition_size: int, width: int) -> nn.Linear:
    """Makes the layer that maps embedded conditions to `width` channels, for `project`. Its weights start at
    zero.

    Otherwise the discriminator would score the condition before it has learnt features of the picture.
    """
    layer = nn.Linear(condition_size, width)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def project(features: Tensor, projection: Tensor) -> Tensor:
    """Multiplies features (B, C, ...) by a projection (B, C) and sums over the channels: (B, ...).

    Source: Miyato and Koyama 2018, cGANs with projection discriminator, arXiv 1802.05637, eq. 3.
    """
    for _ in features.shape[2:]:
        projection = projection[..., None]
    return (projection * features).sum(1)
