"""Describes an exported model as JSON: its networks, and how the networks' inputs are made."""

from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

from toygan.artifact.model import Model
from toygan.artifact.product_finder import FRAME_SHARE
from toygan.conditions.colour_table import LAYOUT_LABELS
from toygan.conditions.text import TextEncoder
from toygan.conditions.text_config import TextConfig
from toygan.interchange.networks import Port
from toygan.models.studio import Generator as StudioGenerator

Format = Literal["onnx", "keras"]

# torch's order (B, C, H, W) in ONNX files, (B, H, W, C) in Keras files
CHANNELS_AXIS: Final[Mapping[Format, int]] = {"onnx": 1, "keras": 3}

REGION_VOTE: Final = "region_vote.py"
STEERING: Final = "steering.py"
TEXT_BANK: Final = "text_bank.npy"


def shape_in(port: Port, format_: Format) -> tuple[int, ...]:
    """Returns the shape that a port has in a format, without the batch dimension."""
    is_last = len(port.shape) == 3 and CHANNELS_AXIS[format_] == 3
    return (*port.shape[1:], port.shape[0]) if is_last else port.shape


def ports_of(ports: tuple[Port, ...], format_: Format) -> list[dict[str, Any]]:
    """Describes a network's inputs or outputs: name, type, shape and meaning."""
    return [
        {
            "name": port.name,
            "shape": ["batch", *shape_in(port, format_)],
            "dtype": port.dtype,
            **({"meaning": port.meaning} if port.meaning else {}),
        }
        for port in ports
    ]


def file_entry(file: Path) -> dict[str, Any]:
    """Describes a file: its name, bytes and sha256."""
    content = file.read_bytes()
    return {"file": file.name, "bytes": len(content), "sha256": sha256(content).hexdigest()}


def describe(model: Model, format_: Format, networks: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the description: the networks, and how their inputs are made."""
    described: dict[str, Any] = {
        "model": model.name,
        "version": model.version,
        "family": model.family,
        "format": format_,
        "made_by": f"toygan {version('toygan')}, torch {version('torch')}",
        "resolution": model.resolution,
        "channels_axis": CHANNELS_AXIS[format_],
        "pictures": "float32 RGB in [-1, 1]; 8 bits: round((clip(x, -1, 1) + 1) * 127.5)",
        "truncation": f"{model.truncation}, within the network",
        "categories": list(model.categories),
        "networks": dict(networks),
    }
    if model.learns_from is not None:
        labels = LAYOUT_LABELS
        described["layout_labels"] = list(labels)
    if model.text_encoder is not None:
        described["text_encoder"] = _text_encoder(model.text_encoder, model.text_config)
    if "layout" in networks:
        described["between_layout_and_generator"] = (
            f"{REGION_VOTE}: vote_by_region(probabilities, paper, given_labels) returns predicted_layout of "
            "each picture; paper is (sketch + 1) / 2 without the channel dimension"
        )
    if isinstance(model.generator, StudioGenerator):
        described["before_generator"] = (
            f"the product is in the middle of the snapshot; its longer side is {FRAME_SHARE} of the frame's"
        )
        described["after_generator"] = (
            f"{STEERING}: steer(product, mask, colour, studio_light) of each picture; mask is "
            "(photo's fourth channel + 1) / 2; the picture is mask * steered + (1 - mask) * ground"
        )
        described["studio_light"] = model.generator.light.matrix.tolist()
    if "enhancer" in networks:
        described["between_generator_and_enhancer"] = (
            "round the picture to 8 bits, then map it to [-1, 1]: `small`"
        )
    if "probe" in networks and model.calibration is not None:
        described["calibration"] = {
            name: {key: asdict(each)[key] for key in ("coef", "intercept", "threshold")}
            for name, each in model.calibration.categories.items()
        }
        described["score"] = "1 / (1 + exp(-(coef * logit + intercept))); good enough if at least `threshold`"
    return described


def _text_encoder(encoder: TextEncoder, config: TextConfig) -> dict[str, Any]:
    """Says how a title becomes the input `text`."""
    pooled = {
        "mean": "mean of the last hidden states over the tokens",
        "cls": "last hidden state of the first token",
    }
    title = "the title" if config.whole_titles else "the title without its colours"
    described: dict[str, Any] = {
        **encoder.to_json(),
        "use": f"{pooled[encoder.pooling]} of {title}, scaled to unit length",
        "colour_names": dict(config.colour_names.hexes),
    }
    if encoder.text_bank is not None:
        described["text_bank"] = {
            "file": TEXT_BANK,
            "temperature": encoder.text_bank.temperature,
            "use": "text becomes softmax(cosine(text - mean(bank), bank - mean(bank)) / temperature) @ bank",
        }
    return described
