"""Chooses the precision of a training if its settings say `auto`."""

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
    """Returns the config with a precision instead of `auto`, and logs it. A precision other than `auto`
    stays.

    A resumed training keeps the precision with which it began, on any machine. Processes on different devices
    take a precision that is fast on all of them.
    """
    if config.optimizer.precision != "auto":
        return config
    begun_with = None if checkpoint is None else _precision_of(checkpoint)
    if begun_with is not None:
        log.info("training in %s, the precision of the checkpoint", begun_with)
        return _with(config, begun_with)
    fastest, reason = fastest_precision(device)
    joint = next(each for each in _SLOWEST_FIRST if distributed.any(fastest == each))
    if joint != fastest:
        fastest, reason = joint, "it is the fastest precision on the device of another process"
    log.info("training in %s: %s", fastest, reason)
    return _with(config, fastest)


def _with(config: TrainConfig, precision: Precision) -> TrainConfig:
    return replace(config, optimizer=replace(config.optimizer, precision=precision))


def _precision_of(checkpoint: Path) -> Precision | None:
    """Returns the precision of a checkpoint, or None if the checkpoint cannot be read.

    In that case the error is reported later, when the checkpoint is loaded.
    """
    try:
        stored = json.loads((checkpoint / "state.json").read_bytes())["config"]["optimizer.precision"]
    except (OSError, KeyError, TypeError, ValueError, RecursionError):
        return None
    return next((each for each in get_args(Precision) if each == stored), None)
