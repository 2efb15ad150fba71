"""Builds networks without weights, for code that needs only the names and shapes of the weights."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Functions that are slow on the device `meta`. All return a tensor of the shape of their first argument.
_INITIALISERS = frozenset(
    {
        *(nn.init.normal_, nn.init.uniform_, nn.init.trunc_normal_, nn.init.orthogonal_),
        *(nn.init.kaiming_normal_, nn.init.kaiming_uniform_),
        *(nn.init.xavier_normal_, nn.init.xavier_uniform_),
        *(Tensor.normal_, Tensor.uniform_),
        F.normalize,  # used by spectral normalisation
    }
)


class _WithoutRandomNumbers(TorchFunctionMode):
    """Makes the functions `_INITIALISERS` return their first argument unchanged."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _INITIALISERS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Within this context, new modules get tensors without memory (device `meta`).

    These are not initialised either, because on this device torch makes random numbers in Python, with
    modules that take seconds to import.
    """
    with torch.device("meta"), _WithoutRandomNumbers():
        yield
