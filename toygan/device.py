"""Picks the device for the networks, and the precision for training on that device."""

import os
import platform
import time
from typing import TYPE_CHECKING, Literal

from toygan.errors import BadInput

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16", "fp16"]


def pick_device(name: str) -> "torch.device":
    """Returns the device that a name means: `auto` (CUDA if there is one, else the CPU), `cpu`, `cuda` or
    `cuda:N`.

    Raises BadInput for another name and for a CUDA device that does not exist.
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
        raise BadInput(f"the device {name} was given, but torch finds no CUDA device here; take auto or cpu")
    count = torch.cuda.device_count()
    if colon and int(number) >= count:
        raise BadInput(f"the device {name} was given, but the last device here is cuda:{count - 1}")
    return torch.device(name)


def usable_cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def fastest_precision(device: "torch.device") -> tuple[Precision, str]:
    """Returns the precision of convolutions and matrix products that trains fastest on `device`, and why.

    - CUDA: bf16 from compute capability 8.0 on, fp16 from 7.0 on, else fp32, because older GPUs have no
    tensor
      cores.
    - x86 CPUs: bf16 if the CPU has units for it, else fp32, because torch would emulate bf16, which takes
      many times as long.
    - Other CPUs: bf16 if one step of a small network is faster with it, else fp32.
    """
    import torch

    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        reason = f"compute capability {major}.{minor}"
        return ("bf16" if major >= 8 else "fp16" if major == 7 else "fp32"), reason
    if platform.machine().lower() in ("x86_64", "amd64"):
        found = torch.cpu.get_capabilities()
        units = [name for name in ("amx_bf16", "avx512_bf16") if found.get(name)]
        return ("bf16", f"the CPU has {units[0]}") if units else ("fp32", "the CPU has no units for bf16")
    times_s = {torch.float32: _step_s(torch.float32), torch.bfloat16: _step_s(torch.bfloat16)}
    reason = f"a step takes {times_s[torch.bfloat16] / times_s[torch.float32]:.2g} times as long in bf16"
    return ("bf16" if times_s[torch.bfloat16] < times_s[torch.float32] else "fp32"), reason


def _step_s(dtype: "torch.dtype") -> float:
    """Measures the time of a forward and backward pass through two convolutions on the CPU.

    Returns the shortest of 3 times, in s.
    """
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        network = nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 32, 3, padding=1))
        network.to(memory_format=torch.channels_last)
        images = torch.randn(8, 32, 32, 32).to(memory_format=torch.channels_last)
    times_s = []
    for _ in range(4):  # The first pass is slower, because it prepares kernels. Its time is left out.
        began_s = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
            loss = network(images).float().square().mean()
        loss.backward()
        times_s.append(time.perf_counter() - began_s)
    return min(times_s[1:])
