"""Loads the optional files of a model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from toygan.artifact.files import LAYOUT_BANK, LAYOUT_PREDICTOR, MASK_NETWORK, TEXT_BANK
from toygan.artifact.layout_bank import LayoutBank
from toygan.artifact.layout_predictor import LayoutPredictor
from toygan.artifact.product_finder import ProductFinder
from toygan.conditions.text_bank import TextBank
from toygan.conditions.text_config import TextConfig
from toygan.errors import ModelError
from toygan.models import network_config, required_condition
from toygan.models.spade import SpadeConfig


def load_text_bank(model: str, files: Mapping[str, bytes], config: Mapping[str, Any]) -> TextBank | None:
    """Loads the text bank of a model; None if its config.json names none.

    Raises ModelError, naming the model, if the file is missing or unusable.
    """
    if "text_smoothing" not in config:
        return None
    content = _file_of(model, files, TEXT_BANK)
    with _naming(TEXT_BANK, model):
        return TextBank.from_file(content, config["text_smoothing"])


def load_layout_bank(model: str, files: Mapping[str, bytes], config: Mapping[str, Any]) -> LayoutBank | None:
    """Loads the layout bank of a model; None if its config.json names none.

    Raises ModelError, naming the model, if the file is missing or unusable.
    """
    if "layout_bank" not in config:
        return None
    content = _file_of(model, files, LAYOUT_BANK)
    with _naming(LAYOUT_BANK, model):
        network = layout_network(config)
        known = LayoutBank.from_file(
            content,
            config["layout_bank"],
            text_size=network.text_size,
            classes=network.layout_classes,
        )
        if missing := sorted(set(config["categories"]) - set(known.categories)):
            raise ModelError(f"it has no layout of {', '.join(missing)}; train the model on some")
        return known


def layout_network(config: Mapping[str, Any]) -> SpadeConfig:
    """Returns the networks of a config.json. Raises ValueError if they do not generate from layouts."""
    network = network_config(config["family"], config["network"])
    if not isinstance(network, SpadeConfig):
        raise ValueError(f"the family {config['family']} cannot use a layout bank")
    return network


def load_layout_predictor(
    model: str, files: Mapping[str, bytes], config: Mapping[str, Any]
) -> LayoutPredictor | None:
    """Loads the layout predictor of a model with a layout bank; None for another model.

    Raises ModelError, naming the model, if the file is missing or unusable.
    """
    if "layout_bank" not in config:
        return None
    content = _file_of(model, files, LAYOUT_PREDICTOR)
    with _naming(LAYOUT_PREDICTOR, model):
        return LayoutPredictor.from_file(content, layout_network(config).layout_classes)


def load_product_finder(
    model: str, files: Mapping[str, bytes], config: Mapping[str, Any], device: torch.device
) -> ProductFinder | None:
    """Loads the mask network of a model that needs snapshots; None for another model.

    Raises ModelError, naming the model, if the file is missing or unusable.
    """
    if required_condition(config) != "photo":
        return None
    content = _file_of(model, files, MASK_NETWORK)
    with _naming(MASK_NETWORK, model):
        return ProductFinder.from_file(content, device)


def _file_of(model: str, files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise ModelError(
            f"{name} of the model {model} is missing, but config.json asks for it; copy the model's folder "
            "again"
        )
    return files[name]


@contextmanager
def _naming(file: str, model: str) -> Iterator[None]:
    """Turns any error about a model's file into a ModelError that names file and model."""
    try:
        yield
    except (KeyError, TypeError, ValueError, ModelError) as error:
        raise ModelError(f"{file} of the model {model}: {error}") from None


def text_config_of(model: str, config: Mapping[str, Any]) -> TextConfig:
    """Returns how a model reads titles. Raises ModelError, naming it, for an unusable config.json."""
    try:
        return TextConfig.from_config(config)
    except ModelError as error:
        raise ModelError(f"config.json of the model {model}: {error}") from None
