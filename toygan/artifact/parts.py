"""Loads the optional files of a model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from toygan.artifact.config import ModelConfig
from toygan.artifact.files import LAYOUT_BANK, LAYOUT_PREDICTOR, MASK_NETWORK, TEXT_BANK
from toygan.artifact.layout_bank import LayoutBank
from toygan.artifact.layout_predictor import LayoutPredictor
from toygan.artifact.mask_network_file import read_mask_network
from toygan.artifact.product_finder import ProductFinder
from toygan.conditions.text_bank import TextBank
from toygan.errors import ModelError
from toygan.models.mask_network import MaskNetwork


def load_text_bank(model: str, files: Mapping[str, bytes], config: ModelConfig) -> TextBank | None:
    """Loads the text bank of a model; returns None if its config.json has no text bank.

    Raises ModelError, naming the model, if the file is missing or unusable.
    """
    if config.text_smoothing is None:
        return None
    with _content(TEXT_BANK, model, files) as content:
        return TextBank.from_file(content, config.text_smoothing)


def load_layout_bank(model: str, files: Mapping[str, bytes], config: ModelConfig) -> LayoutBank | None:
    """Loads the layout bank of a model; returns None if its config.json has no layout bank.

    Raises ModelError, naming the model, if the file is missing or unusable.
    """
    if config.layout_bank is None:
        return None
    with _content(LAYOUT_BANK, model, files) as content:
        known = LayoutBank.from_file(
            content,
            config.layout_bank,
            text_size=config.networks.text_size,
            classes=config.networks.layout_classes,
        )
        if missing := sorted(set(config.categories) - set(known.categories)):
            raise ModelError(
                f"the bank has no layout of {', '.join(missing)}; "
                "train the model on photos of these categories with layouts"
            )
        return known


def load_layout_predictor(
    model: str, files: Mapping[str, bytes], config: ModelConfig
) -> LayoutPredictor | None:
    """Loads the layout predictor of a model; returns None if the model has no layout bank.

    Raises ModelError, naming the model, if the file is missing or unusable.
    """
    if config.layout_bank is None:
        return None
    with _content(LAYOUT_PREDICTOR, model, files) as content:
        return LayoutPredictor.from_file(content, config.networks.layout_classes)


def load_product_finder(
    model: str, files: Mapping[str, bytes], config: ModelConfig, device: torch.device
) -> ProductFinder | None:
    """Loads the mask network of a model; returns None if the model needs no snapshots.

    Raises ModelError, naming the model, if the file is missing or unusable.
    """
    if config.required_condition != "photo":
        return None
    with _content(MASK_NETWORK, model, files) as content:
        return ProductFinder.from_file(content, device)


def load_mask_network(model: str, files: Mapping[str, bytes], config: ModelConfig) -> MaskNetwork | None:
    """Loads the mask network of a model for torch; returns None if the model needs no snapshots.

    Raises ModelError, naming the model, if the file is missing or unusable.
    """
    if config.required_condition != "photo":
        return None
    with _content(MASK_NETWORK, model, files) as content:
        return read_mask_network(content)


@contextmanager
def _content(name: str, model: str, files: Mapping[str, bytes]) -> Iterator[bytes]:
    """Yields the content of a model's file. Turns any error into a ModelError that names file and model."""
    if name not in files:
        raise ModelError(
            f"{name} of the model {model} is missing, but config.json asks for it; copy the model's folder "
            "again"
        )
    try:
        yield files[name]
    except (KeyError, TypeError, ValueError, ModelError) as error:
        raise ModelError(f"{name} of the model {model}: {error}") from None
