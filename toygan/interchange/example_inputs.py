"""Makes example inputs of an exported model, for a few products of its categories."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from toygan.artifact.enhancer import resize_drawings
from toygan.artifact.model import Model
from toygan.artifact.product_finder import FRAME_SHARE
from toygan.conditions.condition_types import ImageCondition
from toygan.conditions.image import PAPER
from toygan.conditions.product import ProductConditions, encode_conditions
from toygan.interchange.networks import networks_of
from toygan.seeds import latent

COLOURS: Final = ("#B40000", "#1E5AA8", "#FAC80A", "#00852B")
_LABEL: Final = 5  # the label of the disc in a product's layout
_PAINT, _TABLE = (180, 60, 50), (150, 140, 120)  # sRGB of the disc in a snapshot, and of what it lies on


def example_inputs(model: Model) -> dict[str, NDArray[Any]]:
    """Returns example inputs for all networks, by name. Leaves out the inputs that another network makes."""
    products = [_product(model, number) for number in range(len(COLOURS))]
    seeds = range(1, len(products) + 1)
    found: dict[str, Tensor] = {
        "latents": torch.from_numpy(np.stack([latent(seed, model.generator.latent_size) for seed in seeds])),
        **encode_conditions(
            products,
            categories=model.categories,
            text_encoder=model.text_encoder,
            image_condition=model.image_condition,
            accent_colours=model.text_config.accent_colours,
        ),
    }
    if model.layout_bank is not None:
        found |= _of_bank(model, products)
    large = {f"large_{name}": value for name, value in resize_drawings(found, model.resolution).items()}
    found = large | resize_drawings(found, model.generated_resolution)
    ports = [port for network in networks_of(model) for port in network.inputs]
    if any(port.name == "snapshot" for port in ports):
        side = next(port.shape[-1] for port in ports if port.name == "snapshot")
        found["snapshot"] = F.interpolate(found["photo"][:, :3], size=side, mode="bilinear")
    if any(port.name == "noise" for port in ports):
        size = next(port.shape[0] for port in ports if port.name == "noise")
        found["noise"] = torch.from_numpy(np.stack([latent(-seed % 2**64, size) for seed in seeds]))
    return {port.name: found[port.name].numpy() for port in ports if port.name in found}


def _product(model: Model, number: int) -> ProductConditions:
    category = model.categories[number % len(model.categories)]
    product = model.conditions_of(
        category=category,
        title=category,
        description=None,
        language="en",
        colour=None,
        colour_hex=COLOURS[number],
        finish=None,
    )
    if model.image_condition is None:
        return product
    image = _shape(model.image_condition, model.resolution)
    return ProductConditions(**{**vars(product), "image": image})


def _shape(kind: ImageCondition, side: int) -> NDArray[np.uint8]:
    """Draws a disc: one label in a layout, paint with a mask in a snapshot, else its outline in ink."""
    rows, columns = np.mgrid[:side, :side]
    distance = np.hypot(rows - side / 2, columns - side / 2) / side
    if kind == "layout":
        return np.where(distance < 0.3, _LABEL, 0).astype(np.uint8)
    if kind == "photo":
        inside = distance < FRAME_SHARE / 2
        shown = np.where(inside[..., None], _PAINT, _TABLE)
        return np.concatenate([shown, 255 * inside[..., None]], axis=2).astype(np.uint8)
    return np.where(np.abs(distance - 0.3) < 1.0 / side, 0, PAPER).astype(np.uint8)


def _of_bank(model: Model, products: list[ProductConditions]) -> Mapping[str, Tensor]:
    bank = model.layout_bank
    assert bank is not None
    texts = torch.zeros(len(products), bank.texts.shape[1])
    if model.text_encoder is not None:
        texts = model.text_encoder.embed([bank.text_of(product) for product in products])
    chosen = [
        bank.choose(product, text, seed, model.truncation)
        for seed, (product, text) in enumerate(zip(products, texts, strict=True))
    ]
    drawings = [model.drawings_of(each) for each in chosen]
    return {name: torch.cat([each[name] for each in drawings]) for name in drawings[0]}
