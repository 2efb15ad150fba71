"""A training small enough for tests: about 5 ms a step on one core."""

from dataclasses import replace
from typing import Any

from toygan.training.config import TrainConfig

_TINY = TrainConfig(
    family="dcgan",
    resolution=32,
    network={
        "latent_size": 8,
        "condition_size": 8,
        "generator_channels": 4,
        "discriminator_channels": 4,
        "max_channels": 16,
    },
    batch_size=4,
    precision="fp32",
    log_every_images=8,
    checkpoint_every_images=16,
)


def tiny(**changes: Any) -> TrainConfig:
    return replace(_TINY, **changes)
