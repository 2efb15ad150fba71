"""Building blocks shared by the model families. No I/O here."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2, sqrt
from typing import ClassVar, Final, Literal, Self

import torch
from torch import Tensor, nn

from toygan.conditions.colour import COLOUR_SIZE
from toygan.conditions.kinds import ImageCondition

PaddingMode = Literal["zeros", "replicate", "reflect"]

COLOURS: Final = ("colour", "accents")  # the conditions that are made of some, the main one first
WHITENING_SHARE = 0.1  # of the mean variance, added to that of every direction

Conditions = Mapping[str, Tensor]
"""What a picture is conditioned on, one row a picture.

Always there: `category` (B,) int64 in [0, categories) and `colour` (B, 4) float32, see
`toygan.conditions.colour`. Where the networks were made for it: `accents` (B, 4 * accent_colours) float32,
the colours beside the main one, encoded likewise; `text` (B, text_size) float32, see
`toygan.conditions.text`, zeros where nothing is said; `sketch` (B, 1, R, R) float32 in [-1, 1], ink at -1;
`layout` (B, R, R) int64, a label a pixel. Where `colour` and `accents` are corrected ones
(`toygan.approval.colour_profile`): `named_colours` (B, K, 4) float32, what `told_colours` gives of those
that the catalog names.
"""


def told_colours(conditions: Conditions) -> Tensor:
    """The main colour and the accents, where these are told: (B, K, 4) float32."""
    told = torch.cat([conditions[name] for name in COLOURS if name in conditions], dim=1)
    return told.view(len(told), -1, COLOUR_SIZE)


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """What the configs of all families have in common."""

    categories: int
    resolution: int = 64  # pixels, a power of two from 32
    text_size: int = 0  # numbers of a text's embedding; 0: these networks read no text
    accent_colours: int = 0  # colours that they are told beside the main one

    image_condition: ClassVar[ImageCondition | None] = None  # what the family cannot draw without
    # Other whole numbers are at least 1.
    may_be_0: ClassVar[tuple[str, ...]] = ("text_size", "accent_colours")

    def __post_init__(self) -> None:
        if self.resolution < 32 or self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution is {self.resolution}; it must be a power of two from 32")
        for name, value in vars(self).items():
            least = 0 if name in self.may_be_0 else 1
            if isinstance(value, int) and not isinstance(value, bool) and value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}")

    def grows_from(self, smaller: "NetworkConfig") -> bool:
        """Whether a training can begin with the blocks of networks for fewer pixels; by default it cannot."""
        return False

    @property
    def resolutions(self) -> list[int]:
        """4, 8, ..., `resolution`."""
        return [2**power for power in range(2, int(log2(self.resolution)) + 1)]


class ConditionalGenerator(nn.Module):
    """What every generator has besides `forward(latents, conditions)`.

    Latents are (B, latent_size) float32, standard normal, pictures (B, 3, R, R) float32.
    """

    latent_size: int
    # What the names of weights begin with that an earlier model may lack: they begin anew.
    may_be_new: ClassVar[tuple[str, ...]] = ()

    def forward_truncated(self, latents: Tensor, conditions: Conditions, truncation: float) -> Tensor:
        """Pictures nearer to the typical one: 1 leaves them as they are, 0 leaves no variety.

        Here by smaller latents.
        """
        images: Tensor = self(truncation * latents, conditions)
        return images

    def forward_in_training(self, latents: Tensor, conditions: Conditions, rng: torch.Generator) -> Tensor:
        """Pictures as the discriminator is shown them in training, where `rng` may vary them."""
        images: Tensor = self(latents, conditions)
        return images


class StyledGenerator(ConditionalGenerator):
    """A generator with styles between latents and pictures, whose path length can be kept even."""

    mean_path_length: Tensor  # () float32, a running mean that training keeps

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean_path_length", torch.zeros(()))

    def forward_with_styles(self, latents: Tensor, conditions: Conditions) -> tuple[Tensor, Tensor]:
        """Pictures and the styles that they are made from, (B, layers, style_size) float32."""
        raise NotImplementedError


class StyleEncodingGenerator(ConditionalGenerator):
    """A generator whose latents can be read off a photo: Park et al. 2019 (SPADE), section 3."""

    def encode_style(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, R, R) float32 in [-1, 1] to mean and log variance of the latents, (B, latent_size) each."""
        raise NotImplementedError


class LayoutDrawingGenerator(ConditionalGenerator):
    """A generator that draws layouts by itself before it paints them, and learns to from photos with one."""

    def forward_with_layouts(
        self, latents: Tensor, conditions: Conditions, known: int
    ) -> tuple[Tensor, Tensor]:
        """Pictures, the first `known` of them painted on their photos' `layout`, the others on its own; and
        what its first `known` layouts lack of the photos', a scalar."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """All that a discriminator says of B pictures: a tensor a head, a scale or a layer."""

    logits: tuple[Tensor, ...]  # (B, ...) float32 each, one number or a map of them a picture
    features: tuple[Tensor, ...] = ()  # (B, C, H, W) each: activations on the way, for feature matching

    @property
    def score(self) -> Tensor:
        """(B,) float32: the mean over the heads of the mean of each one's map."""
        return torch.stack([each.float().reshape(len(each), -1).mean(1) for each in self.logits]).mean(0)


class ConditionalDiscriminator(nn.Module):
    """What every discriminator has: a judgement in full, and the one logit that it comes to."""

    # Whether in training a logit depends on batch-mates: then photos and generated pictures are judged apart,
    # as the generator's pictures will be.
    has_batch_statistics = False

    def judge(self, images: Tensor, conditions: Conditions) -> Judgement:
        """(B, 3, R, R) float32 in [-1, 1] to logits, which are higher for what looks more real."""
        raise NotImplementedError

    def forward(self, images: Tensor, conditions: Conditions) -> Tensor:
        """(B,) float32: the score that the judgement comes to."""
        return self.judge(images, conditions).score


class PretrainedDiscriminator(ConditionalDiscriminator):
    """A discriminator that sees through a network of timm, which was trained elsewhere and stays as it is.

    That network is kept with the model's weights, so that a stored model needs nothing else.
    """

    pretrained_name: str  # timm's
    pretrained_file: str  # safetensors; "": `toygan.backbone_weights` knows where the weights are

    def load_pretrained(self, weights: Mapping[str, Tensor]) -> None:
        """Fills the frozen network in before a training begins; see `toygan.backbone_weights`."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Sections:
    """What the rows (`dim` 0) or columns (`dim` 1) of a weight belong to: names to counts, in their order."""

    dim: int
    counts: Mapping[str, int]


class ConditionInput(nn.Module):
    """A layer whose weights depend on the categories, the texts or the accent colours.

    It says where they are, so that weights can go over to a network for other categories, texts or accents.
    """

    def sections(self) -> Mapping[str, Sections]:
        """By the name of the weight; those of the categories are called `category`, of the text `text`,
        of the accent colours `accents`, of what `toygan.models.shades` paints `shades`, of the
        lines of a sketch `lines`, of what is made of a drawn layout `layout`."""
        raise NotImplementedError


class SilentConv2d(nn.Conv2d, ConditionInput):
    """A convolution of something told pixel by pixel, its section's name; silent at first, so that a network
    which goes on with it draws what it drew."""

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


class Whitening(nn.Module):
    """Makes all directions of a text's embedding about equally long.

    Sentence embeddings differ most by what they are about and least in what tells two products apart: the
    hundredth principal direction of toy bricks' titles has less than a hundredth of the first one's variance,
    and a linear layer would be slow to hear it.
    """

    mean: Tensor  # (size,) float32
    directions: Tensor  # (size, size) float32, columns

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("directions", torch.eye(size))

    @torch.no_grad()
    def fit(self, texts: Tensor) -> None:
        """From N texts as they come in, (N, size) float32; without any, nothing is changed."""
        if not len(texts):
            return
        centred = (texts - texts.mean(0)).double()
        variances, directions = torch.linalg.eigh(centred.T @ centred / len(texts))
        # A share of the mean variance is added, or directions of nothing but rounding would count as much.
        variances = variances.clamp(min=0) + WHITENING_SHARE * variances.mean().clamp(min=1e-12)
        self.mean.copy_(texts.mean(0))
        self.directions.copy_(directions * variances.rsqrt())

    def forward(self, texts: Tensor) -> Tensor:
        """(B, size) float32 to the same; a text of zeros, which says nothing, stays zeros."""
        whitened: Tensor = (texts - self.mean) @ self.directions
        return whitened * texts.any(dim=1, keepdim=True)


class ConditionEmbedding(ConditionInput):
    """Category, main colour and, where asked for, accent colours and text as one vector.

    The colour goes through a small MLP, since a linear map of CIELAB could only say "more" or "less" of each
    axis, never "just this grey".
    """

    def __init__(
        self,
        *,
        categories: int,
        size: int,
        text_size: int = 0,
        whiten_text: bool = False,
        accent_colours: int = 0,
    ) -> None:
        super().__init__()
        self.whitening = Whitening(text_size) if whiten_text and text_size else None
        self.category = nn.Embedding(categories, size)
        self.colour = nn.Sequential(nn.Linear(COLOUR_SIZE, size), nn.SiLU(), nn.Linear(size, size))
        self.text = nn.Linear(text_size, size, bias=False) if text_size else None
        self.accents = None
        if accent_colours:
            inputs = COLOUR_SIZE * accent_colours
            self.accents = nn.Sequential(nn.Linear(inputs, size), nn.SiLU(), nn.Linear(size, size))

    @classmethod
    def of(cls, config: NetworkConfig, *, size: int, whiten_text: bool = False) -> Self:
        """For all that networks of this config are told, but for images."""
        return cls(
            categories=config.categories,
            size=size,
            text_size=config.text_size,
            whiten_text=whiten_text,
            accent_colours=config.accent_colours,
        )

    def sections(self) -> Mapping[str, Sections]:
        sections = {
            "category.weight": Sections(dim=0, counts={"category": self.category.num_embeddings}),
        }
        if self.accents is not None:
            for name, parameter in self.accents.named_parameters():
                sections[f"accents.{name}"] = Sections(dim=0, counts={"accents": len(parameter)})
        if self.text is not None:
            sections["text.weight"] = Sections(dim=1, counts={"text": self.text.in_features})
        if self.whitening is not None:
            for name in ("whitening.mean", "whitening.directions"):
                sections[name] = Sections(dim=0, counts={"text": self.whitening.mean.numel()})
        return sections

    def fit_whitening(self, texts: Tensor) -> None:
        """From N embeddings of texts, (N, text_size) float32; without a whitening nothing happens."""
        if self.whitening is not None:
            self.whitening.fit(_scaled(texts))

    def forward(self, conditions: Conditions) -> Tensor:
        """Returns (B, size) float32."""
        embedded: Tensor = self.category(conditions["category"]) + self.colour(conditions["colour"])
        if self.accents is not None:
            embedded = embedded + self.accents(conditions["accents"])
        if self.text is not None:
            text = _scaled(conditions["text"])
            if self.whitening is not None:
                text = self.whitening(text)
            embedded = embedded + self.text(text)
        return embedded


def _scaled(texts: Tensor) -> Tensor:
    """Rows of unit length times the root of their length: numbers of the size of the other conditions'."""
    return texts * sqrt(texts.shape[1])


class ConditionalBatchNorm2d(nn.Module):
    """Batch normalisation, gain and bias linear in a condition vector (de Vries et al. 2017, eq. 2)."""

    def __init__(self, channels: int, condition_size: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain = nn.Linear(condition_size, channels)
        self.bias = nn.Linear(condition_size, channels)
        for linear in (self.gain, self.bias):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, channels, H, W) and (B, condition_size) to (B, channels, H, W)."""
        gain = (1 + self.gain(condition))[:, :, None, None]
        bias = self.bias(condition)[:, :, None, None]
        normalised: Tensor = self.norm(x)
        return torch.addcmul(bias.to(x.dtype), normalised, gain.to(x.dtype))
