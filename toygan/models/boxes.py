"""Sums and maxima over the square around each pixel. On a CPU, torch's pooling takes many times as long."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def box_sum(x: Tensor, reach: int) -> Tensor:
    """Returns the sum of the square around each pixel, with 2 * reach + 1 pixels a side.

    Values outside (B, C, H, W) count as 0.
    """
    return _over_box(torch.add, x, reach)


def box_maximum(x: Tensor, reach: int) -> Tensor:
    """Returns the maximum of the square that `box_sum` adds up. `x` must not be negative."""
    return _over_box(torch.maximum, x, reach)


def _over_box(combine: Callable[[Tensor, Tensor], Tensor], x: Tensor, reach: int) -> Tensor:
    width = 2 * reach + 1
    x = F.pad(x, (reach, reach, reach, reach))
    return _over_window(combine, _over_window(combine, x, width, dim=-2), width, dim=-1)


def _over_window(combine: Callable[[Tensor, Tensor], Tensor], x: Tensor, width: int, dim: int) -> Tensor:
    """Combines `width` neighbours along a dimension; the result has `width` - 1 fewer values there.

    Windows of 2, 4, 8, ... values are made by doubling. Those whose sizes add up to `width` are combined.
    """
    length = x.shape[dim] - width + 1
    windows, size, done = x, 1, 0
    found: Tensor | None = None
    while True:
        if width & size:
            piece = windows.narrow(dim, done, length)
            found = piece if found is None else combine(found, piece)
            done += size
        if 2 * size > width:
            break
        count = windows.shape[dim] - size
        windows = combine(windows.narrow(dim, 0, count), windows.narrow(dim, size, count))
        size *= 2
    assert found is not None
    return found
