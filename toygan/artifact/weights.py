"""Loads weights into a network, after a check of their shapes, and writes them."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from toygan.errors import ModelError


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Loads all weights. Raises ModelError as `check_weights` does."""
    check_weights(module, tensors)
    module.load_state_dict(dict(tensors))


def check_weights(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Raises ModelError if tensors do not fit the module; the message names the first three.

    The module may be on the device `meta`.
    """
    wanted = module.state_dict()
    misfits = [
        f"{key}: found {tuple(tensors[key].shape) if key in tensors else 'nothing'}, "
        f"wanted {tuple(wanted[key].shape) if key in wanted else 'nothing'}"
        for key in sorted(wanted.keys() | tensors.keys())
        if key not in wanted or key not in tensors or wanted[key].shape != tensors[key].shape
    ]
    if misfits:
        more = f" and {len(misfits) - 3} more" if len(misfits) > 3 else ""
        raise ModelError(f"the weights do not fit the model: {'; '.join(misfits[:3])}{more}")


_OS_ERROR = re.compile(r"os error (\d+)")  # the error number in messages of the safetensors library


def save_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors in their logical order, because safetensors stores no strides.

    Raises OSError if the file cannot be written. safetensors gives the error number only in its message.
    """
    try:
        save_file({key: value.contiguous() for key, value in tensors.items()}, file)
    except SafetensorError as error:
        if found := _OS_ERROR.search(str(error)):
            number = int(found[1])
            raise OSError(number, os.strerror(number), str(file)) from error
        raise
