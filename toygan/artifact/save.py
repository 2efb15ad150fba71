"""Writes a model into a folder."""

from pathlib import Path

from torch import nn

from toygan.artifact.files import CONFIG, LAYOUT_BANK, LAYOUT_PREDICTOR, MASK_NETWORK, TEXT_BANK
from toygan.artifact.layout_bank import LayoutBank
from toygan.artifact.layout_predictor import LayoutPredictor
from toygan.artifact.mask_network_file import mask_network_file
from toygan.artifact.weights import save_tensors
from toygan.conditions.text_bank import TextBank
from toygan.disk import new_folder
from toygan.models.mask_network import MaskNetwork


def save_model(
    folder: Path,
    *,
    generator: nn.Module,
    discriminator: nn.Module,
    config: bytes,
    known: TextBank | None = None,
    layout_bank: LayoutBank | None = None,
    layout_predictor: LayoutPredictor | None = None,
    mask_network: MaskNetwork | None = None,
) -> None:
    """Writes a model into a new folder, which then replaces `folder`.

    So all files belong to the same model, and no calibration of older weights remains.
    """
    with new_folder(folder) as fresh:
        for name, module in (("generator", generator), ("discriminator", discriminator)):
            save_tensors(fresh / f"{name}.safetensors", module.state_dict())
        if known is not None:
            (fresh / TEXT_BANK).write_bytes(known.to_file())
        if layout_bank is not None:
            (fresh / LAYOUT_BANK).write_bytes(layout_bank.to_file())
        if layout_predictor is not None:
            (fresh / LAYOUT_PREDICTOR).write_bytes(layout_predictor.to_file())
        if mask_network is not None:
            (fresh / MASK_NETWORK).write_bytes(mask_network_file(mask_network))
        (fresh / CONFIG).write_bytes(config)
