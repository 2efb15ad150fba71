"""The networks of a model as modules that take tensors alone, ready to be traced.

Whatever the host computes is an input: latents, the noise of StyleGAN, texts as embeddings. A generator that
runs other code between its layers, such as the region vote, is split into two networks; the steering of a
studio follows its network. The truncation of the model and the correction of its colours are part of a
network.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor, nn

from toygan.artifact.colour_profile import FADING, ColourProfile
from toygan.artifact.compiled_mask_network import CompiledMaskNetwork
from toygan.artifact.model import Model
from toygan.conditions.colour import COLOUR_SIZE
from toygan.conditions.image import FRAMED_CHANNELS
from toygan.models.layers import ConditionalGenerator, Conditions, given_colours
from toygan.models.mask_network import TRUNK_SIDE
from toygan.models.pix2pix import ColouringGenerator
from toygan.models.studio import Generator as StudioGenerator
from toygan.models.stylegan import Generator as StyleganGenerator

DType = Literal["float32", "int64"]

_MEANINGS: Final = {
    "latents": "standard normal numbers; other numbers give another picture",
    "noise": "standard normal numbers; they change fine detail",
    "category": "the position of the category in `categories`",
    "colour": "the main colour: CIELAB under D65 as L*/50 - 1, a*/50, b*/50, then 1; zeros if it is unknown",
    "accents": "the other colours, four numbers each, encoded as the main colour",
    "text": "the embedding of the title by `text_encoder`, of unit length; zeros without a title",
    "sketch": "a line drawing: ink is -1, paper is 1",
    "layout": "one label of `layout_labels` for each pixel, 0 for the background",
    "predicted_layout": "one label of `layout_labels` for each pixel, as the region vote returns it",
    "large_layout": "the layout at the side of the enlarged picture",
    "large_sketch": "the sketch at the side of the enlarged picture",
    "small": "the picture of the generator, rounded to 8 bits, in [-1, 1]",
    "photo": "a framed snapshot in [-1, 1]; the fourth channel is its mask: 1 in the product, -1 beside it",
    "snapshot": "the whole snapshot, or the part around the product, as a square picture in [-1, 1]",
    "images": "pictures in [-1, 1]",
}


@dataclass(frozen=True, kw_only=True)
class Port:
    """An input or output of a network."""

    name: str
    shape: tuple[int, ...]  # without the batch
    dtype: DType = "float32"

    @property
    def meaning(self) -> str:
        return _MEANINGS.get(self.name, "")


@dataclass(frozen=True, kw_only=True)
class Network:
    """A module in evaluation mode whose arguments are the `inputs`, in order."""

    name: str
    does: str
    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def run(self, inputs: "dict[str, Tensor]") -> tuple[Tensor, ...]:
        """Runs the network with torch. The shape of an input is the batch, then the shape of its port."""
        with torch.inference_mode():
            found = self.module(*(inputs[port.name] for port in self.inputs))
        return found if isinstance(found, tuple) else (found,)


class CorrectedColours(nn.Module):
    """Does what `ColourProfile.correct` does, as a part of a network."""

    shifts: Tensor  # (categories, 4 * 3)
    ends: Tensor  # (categories, 2 * 3)
    is_shifted: Tensor  # (categories, 1), 1 or 0

    def __init__(self, profile: ColourProfile, categories: Sequence[str]) -> None:
        super().__init__()
        nothing, nowhere = np.zeros((4, 3)), np.zeros((2, 3))
        shifts = np.stack([np.array(profile.shifts.get(name, nothing)) for name in categories])
        ends = np.stack([np.array(profile.ranges.get(name, nowhere)) for name in categories])
        shifted = [[float(name in profile.shifts)] for name in categories]
        self.register_buffer("shifts", torch.tensor(shifts, dtype=torch.float32).flatten(1))
        self.register_buffer("ends", torch.tensor(ends, dtype=torch.float32).flatten(1))
        self.register_buffer("is_shifted", torch.tensor(shifted))

    def forward(self, colours: Tensor, category: Tensor) -> Tensor:
        """Corrects the K encoded colours of each of B pictures: (B, K, 4) to (B, K, 4) float32.

        `category` (B,) int64 selects the correction of each picture.
        """
        shifts = nn.functional.embedding(category, self.shifts).view(-1, 1, 4, 3)
        ends = nn.functional.embedding(category, self.ends).view(-1, 1, 2, 3)
        is_shifted = nn.functional.embedding(category, self.is_shifted)[:, :, None]
        brightness = torch.tensor([1.0, 0.0, 0.0])
        wanted = colours[:, :, :3]
        lab = wanted + brightness
        known = torch.minimum(torch.maximum(lab, ends[:, :, 0]), ends[:, :, 1])
        away = (lab - known).square().sum(dim=2, keepdim=True).sqrt()
        excess = shifts[:, :, 0] + (known[:, :, :, None] * shifts[:, :, 1:]).sum(dim=2)
        given = wanted - excess * (1 - away / FADING).clamp(min=0)
        given = torch.cat([given[:, :, :1].clamp(-1, 1), given[:, :, 1:]], dim=2)
        changes = (is_shifted > 0) & (colours[:, :, 3:] > 0)
        return torch.cat([torch.where(changes, given, wanted), colours[:, :, 3:]], dim=2)


class _Conditioned(nn.Module):
    """The base of the modules that take latents and conditions by position, in the order of `names`."""

    def __init__(self, generator: ConditionalGenerator, names: Sequence[str], model: Model) -> None:
        super().__init__()
        self.generator, self.names, self.truncation = generator, tuple(names), model.truncation
        profile = model.colour_profile
        self.corrected = None if profile is None else CorrectedColours(profile, model.categories)

    def conditions(self, values: Sequence[Tensor]) -> dict[str, Tensor]:
        conditions = dict(zip(self.names, values, strict=True))
        if self.corrected is not None:
            named = given_colours(conditions)
            given = self.corrected(named, conditions["category"])
            conditions |= {"colour": given[:, 0], "named_colours": named}
            if "accents" in conditions:
                conditions["accents"] = given[:, 1:].flatten(1)
        return conditions


class _Plain(_Conditioned):
    def forward(self, *values: Tensor) -> Tensor:
        conditions = self.conditions(values)
        return self.generator.forward_truncated(conditions.pop("latents"), conditions, self.truncation)


class _Styled(_Conditioned):
    generator: StyleganGenerator

    def forward(self, *values: Tensor) -> Tensor:
        conditions = self.conditions(values)
        latents, noise = conditions.pop("latents"), conditions.pop("noise")
        styles = self.generator.truncated_styles(latents, conditions, self.truncation)
        return self.generator.synthesise(styles, self.generator.split_noise(noise))


class _LayoutPart(_Conditioned):
    generator: ColouringGenerator

    def forward(self, *values: Tensor) -> tuple[Tensor, Tensor]:
        conditions = self.conditions(values)
        return self.generator.predict_layout(self.truncation * conditions.pop("latents"), conditions)


class _PaintPart(_Conditioned):
    generator: ColouringGenerator

    def forward(self, *values: Tensor) -> Tensor:
        conditions = self.conditions(values)
        latents, labels = conditions.pop("latents"), conditions.pop("predicted_layout")
        return self.generator.paint_layout(self.truncation * latents, conditions, labels)


class _Studio(nn.Module):
    def __init__(self, generator: StudioGenerator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, photo: Tensor, colour: Tensor) -> tuple[Tensor, Tensor]:
        return self.generator.product_and_ground({"photo": photo, "colour": colour})


class _Enhancing(nn.Module):
    def __init__(self, generator: ConditionalGenerator, names: Sequence[str]) -> None:
        super().__init__()
        self.generator, self.names = generator, tuple(names)

    def forward(self, *values: Tensor) -> Tensor:
        conditions: Conditions = dict(zip(self.names, values, strict=True))
        images: Tensor = self.generator(values[0].new_zeros(values[0].shape[0], 0), conditions)
        return images


def networks_of(model: Model) -> tuple[Network, ...]:
    """Returns the networks of a model in the order in which a picture passes them.

    The generator comes first: one network, or two with the region vote between them. The enhancer, the probe
    that scores the final picture, the layout predictor and the mask network follow, each if the model has
    one.
    """
    generating = _drawing(model) if model.image_condition != "photo" else _relighting(model)
    return (*generating, *_enhancing(model), *_scoring(model), *_predicting(model), *_masking(model))


def _relighting(model: Model) -> Iterator[Network]:
    generator, side = model.generator, model.generated_resolution
    assert isinstance(generator, StudioGenerator)
    yield Network(
        name="generator",
        does="relights the product and makes the ground; steering.py steers the product's colour, then the "
        "mask joins both",
        module=_Studio(generator).eval(),
        inputs=(
            Port(name="photo", shape=(FRAMED_CHANNELS, side, side)),
            Port(name="colour", shape=(COLOUR_SIZE,)),
        ),
        outputs=(Port(name="product", shape=(3, side, side)), Port(name="ground", shape=(3, side, side))),
    )


def _drawing(model: Model) -> Iterator[Network]:
    generator, side = model.generator, model.generated_resolution
    inputs = [Port(name="latents", shape=(generator.latent_size,)), *_condition_ports(model)]
    images = Port(name="images", shape=(3, side, side))
    if isinstance(generator, ColouringGenerator):
        names = [port.name for port in inputs]
        colours = 1 + model.text_config.accent_colours
        yield Network(
            name="layout",
            does="predicts label probabilities, from which the region vote (region_vote.py) makes a layout",
            module=_LayoutPart(generator, names, model).eval(),
            inputs=tuple(inputs),
            outputs=(
                Port(name="probabilities", shape=(generator.layout_classes, side, side)),
                Port(name="given_labels", shape=(colours,), dtype="int64"),
            ),
        )
        inputs.append(Port(name="predicted_layout", shape=(side, side), dtype="int64"))
        module: nn.Module = _PaintPart(generator, [*names, "predicted_layout"], model)
    elif isinstance(generator, StyleganGenerator):
        inputs.append(Port(name="noise", shape=(generator.noise_size,)))
        module = _Styled(generator, [port.name for port in inputs], model)
    else:
        module = _Plain(generator, [port.name for port in inputs], model)
    yield Network(
        name="generator",
        does="generates the picture",
        module=module.eval(),
        inputs=tuple(inputs),
        outputs=(images,),
    )


def _condition_ports(model: Model) -> Iterator[Port]:
    yield Port(name="category", shape=(), dtype="int64")
    yield Port(name="colour", shape=(COLOUR_SIZE,))
    if model.text_config.accent_colours:
        yield Port(name="accents", shape=(COLOUR_SIZE * model.text_config.accent_colours,))
    if model.text_encoder is not None:
        yield Port(name="text", shape=(model.text_encoder.size,))
    yield from _drawn_ports(model, model.generated_resolution)


def _drawn_ports(model: Model, side: int) -> Iterator[Port]:
    if model.learns_from == "layout":
        yield Port(name="layout", shape=(side, side), dtype="int64")
    if model.learns_from == "sketch" or (model.learns_from_lines and model.layout_bank is not None):
        yield Port(name="sketch", shape=(1, side, side))


def _enhancing(model: Model) -> Iterator[Network]:
    if model.enhancer is None:
        return
    small, side = model.enhancer.small_resolution, model.enhancer.resolution
    drawn = [
        Port(name=f"large_{port.name}", shape=port.shape, dtype=port.dtype)
        for port in _drawn_ports(model, side)
    ]
    inputs = (Port(name="small", shape=(3, small, small)), *drawn)
    yield Network(
        name="enhancer",
        does="enlarges the picture",
        module=_Enhancing(
            model.enhancer.generator, [port.name.removeprefix("large_") for port in inputs]
        ).eval(),
        inputs=inputs,
        outputs=(Port(name="images", shape=(3, side, side)),),
    )


def _scoring(model: Model) -> Iterator[Network]:
    weights = None if model.calibration is None else model.calibration.probe
    if weights is None:
        return
    from toygan.artifact.feature_extractor import FeatureExtractor
    from toygan.artifact.probe import Probe

    side = model.resolution
    yield Network(
        name="probe",
        does="scores the final picture; `calibration` maps its logit to the probability of a photo",
        module=Probe(weights, FeatureExtractor(weights.side)).eval(),
        inputs=(Port(name="images", shape=(3, side, side)),),
        outputs=(Port(name="logits", shape=()),),
    )


def _predicting(model: Model) -> Iterator[Network]:
    if model.layout_predictor is None:
        return
    segmenter, side = model.layout_predictor.segmenter, model.generated_resolution
    yield Network(
        name="layout_predictor",
        does="predicts the layout of a photo: the labels' logits, then the logit of ink",
        module=segmenter,
        inputs=(Port(name="images", shape=(3, side, side)),),
        outputs=(Port(name="label_logits", shape=(segmenter.classes, side, side)),),
    )


def _masking(model: Model) -> Iterator[Network]:
    if model.product_finder is None:
        return
    side = max(model.resolution, TRUNK_SIDE)
    network = model.product_finder.network
    yield Network(
        name="mask_network",
        does="finds the product in a snapshot: a logit for each pixel, above 0 in the product",
        module=network.in_torch() if isinstance(network, CompiledMaskNetwork) else network,
        inputs=(Port(name="snapshot", shape=(3, side, side)),),
        outputs=(Port(name="mask_logits", shape=(1, side, side)),),
    )
