"""A tiny enhancer, from 32 to 64 pixels."""

import torch

from tests.models import config_json, weights_of
from toygan.artifact.files import ModelFiles
from toygan.models import build

NETWORK = {
    **{"resolution": 64, "small_resolution": 32, "categories": 1},
    **{"generator_channels": 4, "discriminator_channels": 4},
}


def tiny_enhancer(**changes: bytes) -> ModelFiles:
    """An enhancer whose weights add something to the picture."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator, discriminator = build("enhancer", NETWORK)
        torch.nn.init.normal_(generator.to_rgb.weight, std=0.1)
    content = {
        "config.json": config_json("enhancer", NETWORK, ["any"]),
        "generator.safetensors": weights_of(generator),
        "discriminator.safetensors": weights_of(discriminator),
    }
    renamed = {name.replace("_", "."): data for name, data in changes.items()}
    return ModelFiles(name="tiny-enhancer", version="0", files=content | renamed)
