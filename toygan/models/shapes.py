"""Networks that are built for the names and shapes of their weights alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# All return a tensor of the shape of their first argument.
_INITIALISERS = frozenset(
    {
        *(nn.init.normal_, nn.init.uniform_, nn.init.trunc_normal_, nn.init.orthogonal_),
        *(nn.init.kaiming_normal_, nn.init.kaiming_uniform_),
        *(nn.init.xavier_normal_, nn.init.xavier_uniform_),
        *(Tensor.normal_, Tensor.uniform_),
        F.normalize,  # of spectral norms
    }
)


class _WithoutRandomNumbers(TorchFunctionMode):
    """Leaves tensors as they are where they would be filled with random numbers."""

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
    """Modules that are made in the block have tensors without memory.

    Random numbers are left out, too: torch follows those of such tensors in Python, by modules that take
    seconds to import.
    """
    with torch.device("meta"), _WithoutRandomNumbers():
        yield
