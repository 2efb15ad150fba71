"""A training small enough for tests: about 5 ms a step on one core."""

from dataclasses import fields, replace
from typing import Any

from toygan.training.config import (
    GROUPS,
    DataSettings,
    LoggingSettings,
    OptimizerSettings,
    TrainConfig,
)

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
    data=DataSettings(batch_size=4),
    optimizer=OptimizerSettings(precision="fp32"),
    logging=LoggingSettings(log_every_images=8, checkpoint_every_images=16),
)


def changed(config: TrainConfig, **changes: Any) -> TrainConfig:
    """The config with other values of some options, whatever their groups are."""
    for name, group in GROUPS.items():
        of_group = {each.name: changes.pop(each.name) for each in fields(group) if each.name in changes}
        config = replace(config, **{name: replace(getattr(config, name), **of_group)})
    return replace(config, **changes)


def tiny(**changes: Any) -> TrainConfig:
    return changed(_TINY, **changes)
