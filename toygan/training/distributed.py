"""The processes that train one model together, each on its share of every batch.

Hugging Face Accelerate finds out how they were launched (`accelerate launch` or `torchrun`) and joins them.
Gradients are averaged over all processes after every backward pass. DistributedDataParallel does it, too, but
for calls of `forward` only, and the networks have more methods. All processes have the same weights, so they
make the same decisions from them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import torch
from torch import Tensor, nn

from toygan.errors import BadInput, needs_extra

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Distributed:
    """The place of one process among `count`."""

    index: int
    count: int
    device: torch.device | None = None  # of this process; None: the device of the command

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.index == 0

    def mean(self, values: Tensor) -> Tensor:
        """Returns the mean over all processes. The tensor, float32 or float64, has one shape in all."""
        if self.count == 1:
            return values
        summed = values.clone()
        torch.distributed.all_reduce(summed)
        return summed / self.count

    def any(self, is_so: bool) -> bool:
        """Returns whether `is_so` is true in any process, so that all continue or all stop."""
        if self.count == 1:
            return is_so
        flag = torch.tensor([float(is_so)], device=self.device)
        torch.distributed.all_reduce(flag)
        return bool(flag.item())

    def wait(self) -> None:
        """Waits until every process has called it."""
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
        """Makes batch normalisation use the joint batch, on GPUs only: PyTorch has no such layer for CPUs."""
        if self.count == 1 or self.device is None or self.device.type != "cuda":
            return network
        converted: Network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return converted


ALONE: Final = Distributed(index=0, count=1)


@contextmanager
def join_distributed(device: torch.device) -> Iterator[Distributed]:
    """Joins the processes of the launcher; yields `ALONE` if there is only this one.

    On CUDA each process takes the device of its rank. Raises BadInput if `device` is one GPU for all.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield ALONE
        return
    if device.type == "cuda" and device.index is not None:
        raise BadInput(
            f"{device} is one device for all processes; give --device cuda, and each takes its own"
        )
    with needs_extra("train", "a training on several devices"):
        from accelerate import PartialState

    state = PartialState(cpu=device.type == "cpu")
    try:
        yield Distributed(index=state.process_index, count=state.num_processes, device=state.device)
    finally:
        state.destroy_process_group()
