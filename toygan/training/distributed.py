"""The processes that train one model together, each on its share of every batch.

Hugging Face Accelerate finds out how they were launched (`accelerate launch` or `torchrun`) and connects
them. Gradients are averaged over all processes after every backward pass. torch's DistributedDataParallel
does the same, but only for calls of `forward`, and training also calls other methods of the networks. All
processes have the same weights, so decisions that depend on weights are the same in all processes.
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
    """The place of one process among `count` processes."""

    index: int
    count: int
    device: torch.device | None = None  # the device of this process; None for the device that the user chose

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.index == 0

    def mean(self, values: Tensor) -> Tensor:
        """Returns the mean over all processes.

        `values` is float32 or float64 and has the same shape in all processes.
        """
        if self.count == 1:
            return values
        summed = values.clone()
        torch.distributed.all_reduce(summed)
        return summed / self.count

    def mean_number(self, value: float) -> float:
        """Returns the mean of a number over all processes. So all processes make the same decision."""
        return float(self.mean(torch.tensor([value], dtype=torch.float64, device=self.device)).item())

    def any(self, is_so: bool) -> bool:
        """Returns whether `is_so` is true in at least one process.

        So all processes make the same decision.
        """
        if self.count == 1:
            return is_so
        flag = torch.tensor([float(is_so)], device=self.device)
        torch.distributed.all_reduce(flag)
        return bool(flag.item())

    def wait(self) -> None:
        """Waits until every process has called this method."""
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
        # All gradients are sent in one message instead of hundreds.
        sizes = [gradient.numel() for gradient in gradients]
        joined = self.mean(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        for gradient, mean in zip(gradients, torch.split(joined, sizes), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def synchronise_norms(self, network: Network) -> Network:
        """Makes batch normalisation use the whole batch of all processes.

        It does so only on GPUs, because PyTorch has no such layer for CPUs.
        """
        if self.count == 1 or self.device is None or self.device.type != "cuda":
            return network
        converted: Network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return converted


ALONE: Final = Distributed(index=0, count=1)


@contextmanager
def join_distributed(device: torch.device) -> Iterator[Distributed]:
    """Connects this process with the launcher's other processes. Yields `ALONE` if there are no other
    processes.

    On CUDA each process takes the device of its rank. Raises BadInput if `device` names a single GPU.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield ALONE
        return
    if device.type == "cuda" and device.index is not None:
        raise BadInput(
            f"{device} is a single device for all processes; "
            "give --device cuda, so that each process takes its own device"
        )
    with needs_extra("train", "a training on several devices"):
        from accelerate import PartialState

    state = PartialState(cpu=device.type == "cpu")
    try:
        yield Distributed(index=state.process_index, count=state.num_processes, device=state.device)
    finally:
        state.destroy_process_group()
