"""The processes that train one model together, each on its share of every batch.

Hugging Face Accelerate finds out how they were launched (`accelerate launch` or `torchrun`) and joins them.
Gradients are averaged over all after every backward pass, as DistributedDataParallel would; it is done here
since the networks are asked in more ways than by `forward`, which is all that DistributedDataParallel sees.
Every process holds the same weights, so what is decided from them is decided alike.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import torch
from torch import Tensor, nn

from toygan.errors import BadInput

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Distributed:
    """One process's place among `count`."""

    index: int
    count: int
    device: torch.device | None = None  # of this process; None: the one that was asked for

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.index == 0

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all processes of a tensor of one shape, float32 or float64."""
        if self.count == 1:
            return values
        summed = values.clone()
        torch.distributed.all_reduce(summed)
        return summed / self.count

    def any(self, is_so: bool) -> bool:
        """Whether it is so in any process, so that none goes on alone."""
        if self.count == 1:
            return is_so
        flag = torch.tensor([float(is_so)], device=self.device)
        torch.distributed.all_reduce(flag)
        return bool(flag.item())

    def wait(self) -> None:
        """Returns when every process has come here."""
        if self.count > 1:
            torch.distributed.barrier()

    def average_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """Replaces the gradients of the optimizer's parameters by their means over all processes."""
        if self.count == 1:
            return
        gradients = [
            parameter.grad
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        # One message instead of hundreds.
        sizes = [gradient.numel() for gradient in gradients]
        joined = self.mean(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        for gradient, mean in zip(gradients, torch.split(joined, sizes), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def synchronise_norms(self, network: Network) -> Network:
        """Lets batch normalisation see the joint batch, on GPUs; PyTorch has no such layer for the CPU."""
        if self.count == 1 or self.device is None or self.device.type != "cuda":
            return network
        converted: Network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return converted


ALONE: Final = Distributed(index=0, count=1)


@contextmanager
def join_distributed(device: torch.device) -> Iterator[Distributed]:
    """The world that this process was launched into, `ALONE` where it was launched by itself.

    On CUDA each process takes the device of its rank. Raises BadInput where `device` names one GPU for all.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield ALONE
        return
    if device.type == "cuda" and device.index is not None:
        raise BadInput(
            f"{device} is one device for all processes; give --device cuda, and each takes its own"
        )
    from accelerate import PartialState

    state = PartialState(cpu=device.type == "cpu")
    try:
        yield Distributed(index=state.process_index, count=state.num_processes, device=state.device)
    finally:
        state.destroy_process_group()
