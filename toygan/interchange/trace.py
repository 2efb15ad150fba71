"""Traces a network into a graph of tensor operations with any batch size."""

from typing import Final

import torch
from torch.export import Dim, ExportedProgram

from toygan.interchange.networks import Network, Port

_PICTURES: Final = 2  # number of pictures in the example batch; torch would take 1 for a fixed size


def trace(network: Network) -> ExportedProgram:
    """Traces `network` with `torch.export`. The batch, the first dimension of all inputs, has any size."""
    examples = tuple(example(port) for port in network.inputs)
    batch = Dim("batch")
    # For torch, the inputs of a module that takes `*values` are one argument, a tuple.
    is_one_tuple = _takes_any(network)
    shapes = tuple({0: batch} for _ in examples)
    with torch.no_grad():
        return torch.export.export(
            network.module, examples, dynamic_shapes=(shapes,) if is_one_tuple else shapes, strict=False
        )


def example(port: Port, pictures: int = _PICTURES) -> torch.Tensor:
    """Returns zeros in the shape of a port."""
    return torch.zeros((pictures, *port.shape), dtype=getattr(torch, port.dtype))


def _takes_any(network: Network) -> bool:
    from inspect import Parameter, signature

    parameters = signature(network.module.forward).parameters.values()
    return any(parameter.kind is Parameter.VAR_POSITIONAL for parameter in parameters)
