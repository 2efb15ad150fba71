"""Where the networks run."""

from typing import TYPE_CHECKING

from toygan.errors import BadInput

if TYPE_CHECKING:
    import torch


def pick_device(name: str) -> "torch.device":
    """`auto` (CUDA where there is one, else the CPU), `cpu`, `cuda` or `cuda:N`.

    Raises BadInput for another name and for a CUDA device that is not there.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, colon, number = name.partition(":")
    if kind != "cuda" or (colon and not (number.isascii() and number.isdecimal())):
        raise BadInput(f"unknown device {name!r}; known are auto, cpu, cuda and cuda:N")
    if not torch.cuda.is_available():
        raise BadInput(f"the device {name} was asked for, but torch finds no CUDA here; take auto or cpu")
    count = torch.cuda.device_count()
    if colon and int(number) >= count:
        raise BadInput(f"the device {name} was asked for, but the last one here is cuda:{count - 1}")
    return torch.device(name)
