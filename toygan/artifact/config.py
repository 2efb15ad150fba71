"""Reads and writes config.json, which says what a model needs and what it can do.

`_File` lists the options. The `enhancer.json` of a model is the config.json of its enhancer. No other module
reads or writes these files.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from toygan.artifact.files import CONFIG, ModelFiles
from toygan.artifact.json_object import json_object
from toygan.conditions.colour_names import ColourNames
from toygan.conditions.condition_types import DRAWINGS, ImageCondition
from toygan.conditions.text_config import TextConfig
from toygan.errors import ModelError
from toygan.models import build_networks, network_config
from toygan.options import from_options

if TYPE_CHECKING:
    from toygan.models.layers import ConditionalDiscriminator, ConditionalGenerator, NetworkConfig

_REMEDY: Final = "copy the model's folder again"
_TITLES_ONLY: Final = TextConfig(descriptions=False)


@dataclass(frozen=True, kw_only=True)
class _File:
    """The content of config.json, in the types of JSON."""

    family: str
    resolution: int
    categories: tuple[str, ...]
    network: dict[str, Any]
    whole_titles: bool
    reads_descriptions: bool
    colour_names: dict[str, str]
    text_encoder: dict[str, str] | None = None
    text_smoothing: float | None = None
    layout_bank: float | None = None
    truncation: float = 1.0
    credit: str | None = None
    first_stages: tuple[str, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """All that a model needs besides its weights. Raises ValueError for values that do not fit together."""

    family: str  # see `toygan.models.FAMILIES`
    networks: "NetworkConfig"  # holds every option, so that a changed default does not change the model
    categories: tuple[str, ...]  # the names of the categories, in the order of the networks' category indices
    text: TextConfig = _TITLES_ONLY
    # see `TextEncoder.to_json`; None if the model takes no text
    text_encoder: Mapping[str, str] | None = None
    text_smoothing: float | None = None  # the temperature of the text bank; None if there is no text bank
    layout_bank: float | None = None  # the temperature of the layout bank; None if there is no layout bank
    truncation: float = 1.0  # from 0 to 1; below 1 trades variety for typical pictures
    credit: str | None = None  # the attribution that the licence of the training pictures demands
    first_stages: tuple[str, ...] = ()  # NAME@VERSION of the models that an enhancer learnt from
    training: Mapping[str, Any] = field(default_factory=dict)  # the settings of the last training

    def __post_init__(self) -> None:
        names, networks = self.categories, self.networks
        if len(names) != networks.categories:
            raise ValueError(f"it names {len(names)} categories, but its networks have {networks.categories}")
        if bool(networks.text_size) != (self.text_encoder is not None):
            raise ValueError("text_encoder and a text_size above 0 go together")
        if self.text_encoder is not None and not {"name", "identity"} <= self.text_encoder.keys():
            raise ValueError("text_encoder must have a name and an identity")
        if self.layout_bank is not None and networks.image_condition != "layout":
            raise ValueError(f"the family {self.family} cannot use a layout bank")
        if not 0 <= self.truncation <= 1:
            raise ValueError(f"truncation is {self.truncation}; it must lie from 0 to 1")

    @classmethod
    def from_json(cls, content: bytes, where: str) -> Self:
        """Reads a config.json. Raises ModelError, naming it `where`, if it does not describe a model."""
        file = _parse(content, where)
        try:
            networks = network_config(file.family, file.network)
            if file.resolution != networks.resolution:
                raise ValueError(
                    f"its resolution is {file.resolution}, but its networks have {networks.resolution}"
                )
            return cls(
                family=file.family,
                networks=networks,
                categories=file.categories,
                text=TextConfig(
                    whole_titles=file.whole_titles,
                    descriptions=file.reads_descriptions,
                    accent_colours=networks.accent_colours,
                    colour_names=ColourNames.from_json(file.colour_names),
                ),
                text_encoder=file.text_encoder,
                text_smoothing=file.text_smoothing,
                layout_bank=file.layout_bank,
                truncation=file.truncation,
                credit=file.credit,
                first_stages=file.first_stages,
                training=file.training,
            )
        except (ValueError, ModelError) as error:
            raise _no_model(where, error) from error

    def to_json(self) -> bytes:
        """Returns the config.json; options that are None or empty are left out."""
        options: dict[str, Any] = {
            "family": self.family,
            "resolution": self.networks.resolution,
            "categories": self.categories,
            "network": asdict(self.networks),
            "whole_titles": self.text.whole_titles,
            "reads_descriptions": self.text.descriptions,
            "colour_names": self.text.colour_names.to_json(),
            "truncation": self.truncation,
            "training": dict(self.training),
        }
        for name in ("text_encoder", "text_smoothing", "layout_bank", "credit"):
            if (value := getattr(self, name)) is not None:
                options[name] = dict(value) if isinstance(value, Mapping) else value
        if self.first_stages:
            options["first_stages"] = self.first_stages
        return (json.dumps(options, indent=1, sort_keys=True) + "\n").encode()

    def build(self) -> "tuple[ConditionalGenerator, ConditionalDiscriminator]":
        """Builds a generator and a discriminator.

        Their weights are random numbers of torch's global generator.
        """
        return build_networks(self.family, self.networks)

    @property
    def resolution(self) -> int:
        """The side of the generator's pictures in pixels."""
        return self.networks.resolution

    @property
    def enlarges(self) -> bool:
        """Whether the model is an enhancer, which only enlarges the pictures of another model."""
        return self.networks.needs_small_picture

    @property
    def required_condition(self) -> ImageCondition | None:
        """The image condition that each catalog row must have.

        It is None if the networks take no image, or if a layout bank gives the layouts.
        """
        return None if self.layout_bank is not None else self.networks.image_condition

    @property
    def takes_drawings(self) -> bool:
        """Whether a product's own layout and sketch, if it has both, take the place of those of the bank."""
        return self.layout_bank is not None and self.networks.lines

    def images_taken(self, given: Collection[str]) -> tuple[ImageCondition, ...]:
        """Returns the types of images, of those `given` for a product, that its picture is generated from."""
        if self.takes_drawings and set(DRAWINGS) <= set(given):
            return DRAWINGS
        return () if self.required_condition is None else (self.required_condition,)


def config_of(model: ModelFiles, *, may_enlarge: bool = False) -> ModelConfig:
    """Returns the config of a model. Raises ModelError for a damaged config.

    Without `may_enlarge` it also raises ModelError for an enhancer.
    """
    where = f"{CONFIG} of the model {model.name}"
    config = ModelConfig.from_json(model.files[CONFIG], where)
    if config.enlarges and not may_enlarge:
        raise _no_model(where, "it is an enhancer, which only enlarges the pictures of another model")
    return config


def categories_in(content: bytes, where: str) -> tuple[str, ...]:
    """Returns the categories in a config.json. It does not import the networks, because that is slow.

    Raises ModelError as `ModelConfig.from_json`.
    """
    return _parse(content, where).categories


def _parse(content: bytes, where: str) -> _File:
    options = json_object(content, where, _REMEDY)
    try:
        return from_options(_File, options, owner="its options")
    except ValueError as error:
        raise _no_model(where, error) from error


def _no_model(where: str, reason: object) -> ModelError:
    return ModelError(f"{where} does not describe a model: {reason}")
