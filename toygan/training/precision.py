"""Chooses the precision of a training with the precision `auto`."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Final, get_args

import torch

from toygan.device import Precision, fastest_precision
from toygan.training.config import TrainConfig
from toygan.training.distributed import Distributed

log = logging.getLogger(__name__)

_SLOWEST_FIRST: Final[tuple[Precision, ...]] = ("fp32", "fp16", "bf16")


def with_precision(
    config: TrainConfig, device: torch.device, *, checkpoint: Path | None, distributed: Distributed
) -> TrainConfig:
    """Returns the config with a precision instead of `auto`, and logs it.

    A resumed training keeps its first precision on any machine. Processes on different devices take a
    precision that is fast on all of them.
    """
    if config.optimizer.precision != "auto":
        return config
    begun_with = None if checkpoint is None else _precision_of(checkpoint)
    if begun_with is not None:
        log.info("training in %s, as before", begun_with)
        return _with(config, begun_with)
    fastest, reason = fastest_precision(device)
    joint = next(each for each in _SLOWEST_FIRST if distributed.any(fastest == each))
    if joint != fastest:
        fastest, reason = joint, "another process is faster so"
    log.info("training in %s: %s", fastest, reason)
    return _with(config, fastest)


def _with(config: TrainConfig, precision: Precision) -> TrainConfig:
    return replace(config, optimizer=replace(config.optimizer, precision=precision))


def _precision_of(checkpoint: Path) -> Precision | None:
    """Returns None if it cannot be read; loading the checkpoint then reports what is wrong."""
    try:
        stored = json.loads((checkpoint / "state.json").read_bytes())["config"]["optimizer.precision"]
    except (OSError, KeyError, TypeError, ValueError):
        return None
    return next((each for each in get_args(Precision) if each == stored), None)
