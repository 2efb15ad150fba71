"""Models that trainings start from, for tests."""

from typing import Any

import torch

from tests.models import TinyFiles, config_json, weights_of
from tests.toygan.training.tiny import tiny
from toygan.artifact.files import CONFIG, ModelFiles
from toygan.models import build
from toygan.training.config import TrainConfig

WIDTHS = {"generator_channels": 4, "discriminator_channels": 4, "max_channels": 16}


NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"generator_units": [16, 32], "discriminator_units": [16, 8]},
    "dcgan": {"latent_size": 8, "condition_size": 8, **WIDTHS},
    "stylegan": {"latent_size": 8, "style_size": 8, "channel_base": 64, "max_channels": 8},
    "projected": {**WIDTHS, "backbone": "test_efficientnet", "backbone_resolution": 32},
    "pix2pix": WIDTHS,
    "spade": WIDTHS | {"modulation_channels": 4},
}


OLD, NEW = ("car", "brick", "wheel"), ("brick", "plant", "wheel")


ENCODER = {"name": "reader", "identity": "0"}


def config_of(family: str) -> TrainConfig:
    return tiny(family=family, network=NETWORKS[family])


def stored(family: str, *, text_size: int = 0, **options: Any) -> TinyFiles:
    """A model of the categories `OLD` with random weights."""
    network = {**NETWORKS.get(family, {}), "resolution": 32, "categories": len(OLD), "text_size": text_size}
    network |= options
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        generator, discriminator = build(family, network)
        for each in (*generator.parameters(), *discriminator.parameters()):
            each.data.add_(0.1 * torch.randn(each.shape))  # no weight is zero, nor two alike
    files = {
        CONFIG: config_json(family, network, OLD, text_encoder=ENCODER if text_size else None),
        "generator.safetensors": weights_of(generator),
        "discriminator.safetensors": weights_of(discriminator),
    }
    return TinyFiles(name="old", files=files)


def files_of(model: TinyFiles) -> ModelFiles:
    return ModelFiles(name=model.name, version=model.version, files=model.files)
