"""The Keras operation for each operation of torch that changes a shape, or cuts or joins tensors."""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from keras import ops
from torch import Tensor
from torch.fx import Node

from toygan.interchange.keras_graph import Graph, Value, cast, dtype_of, shape_of

aten = torch.ops.aten

_END: Final = 2**62  # a larger number is torch's way to write "to the end"


def view(graph: Graph, node: Node, value: Any, size: Any) -> Value:
    return Value(ops.reshape(graph.first(value), shape_of(node)))


def permute(graph: Graph, node: Node, value: Any, dims: Sequence[int]) -> Value:
    return Value(ops.transpose(graph.first(value), tuple(dims)))


def unsqueeze(graph: Graph, node: Node, value: Any, dim: int) -> Value:
    return Value(ops.expand_dims(graph.first(value), dim))


def expand(graph: Graph, node: Node, value: Any, size: Any) -> Value:
    shape = shape_of(node)
    tensor = graph.batched(value[0]) if isinstance(value, Tensor) else graph.first(value)
    for axis in range(1, len(shape)):
        if tensor.shape[axis] != shape[axis]:
            tensor = ops.repeat(tensor, shape[axis], axis=axis)
    return Value(tensor)


def repeat(graph: Graph, node: Node, value: Tensor, repeats: Sequence[Any]) -> Value:
    """Repeats a constant along its first dimension, once for each picture."""
    if not isinstance(value, Tensor) or list(repeats[1:]) != [1] * (len(repeats) - 1):
        raise RuntimeError("only constants are repeated, once for each picture")
    return Value(ops.reshape(graph.batched(value), (-1, *value.shape[1:])))


def repeat_interleave(graph: Graph, node: Node, value: Any, repeats: int, dim: int) -> Value:
    return Value(ops.repeat(graph.first(value), repeats, axis=dim))


def select(graph: Graph, node: Node, value: Any, dim: int, index: int) -> Value:
    whole = graph.first(value)
    return Value(whole[(*_before(whole, dim), index)])


def sliced(graph: Graph, node: Node, value: Any, dim: int = 0, start: Any = 0, end: Any = None) -> Value:
    start, end = start or None, None if end is None or end > _END else end
    if start is None and end is None:
        return value if isinstance(value, Value) else Value(value)
    whole = graph.first(value)
    return Value(whole[(*_before(whole, dim), slice(start, end))])


def _before(whole: Any, dim: int) -> tuple[slice, ...]:
    """Returns the indices of the dimensions before `dim`, which counts from the end if it is negative."""
    return (slice(None),) * (dim % len(whole.shape))


def slice_scatter(
    graph: Graph, node: Node, into: Any, value: Any, dim: int = 0, start: Any = 0, end: Any = None
) -> Any:
    start, end = start or 0, None if end is None or end > _END else end
    if start == 0 and end is None:
        return value
    whole = graph.first(into)
    before, size = _before(whole, dim), whole.shape[dim]
    end = size if end is None else end % size if end < 0 else end
    parts = [whole[(*before, slice(0, start))]] if start else []
    parts.append(cast(graph.first(value), dtype_of(node)))
    parts += [whole[(*before, slice(end, None))]] if end < size else []
    return Value(ops.concatenate(parts, axis=dim))


def select_scatter(graph: Graph, node: Node, into: Any, value: Any, dim: int, index: int) -> Any:
    one = Value(ops.expand_dims(graph.first(value), dim))
    return slice_scatter(graph, node, into, one, dim, index, index + 1)


def cat(graph: Graph, node: Node, values: Sequence[Any], dim: int = 0) -> Value:
    dim = dim % len(shape_of(node))
    is_last = dim == 1 and any(isinstance(each, Value) and each.is_last for each in values)
    tensors = [cast((graph.last if is_last else graph.first)(each), dtype_of(node)) for each in values]
    return Value(ops.concatenate(tensors, axis=3 if is_last else dim), is_last)


def split(graph: Graph, node: Node, value: Any, sizes: Sequence[int], dim: int) -> list[Value]:
    ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    whole = graph.first(value)
    before, pairs = _before(whole, dim), zip([0, *ends], ends, strict=False)
    return [Value(whole[(*before, slice(start, end))]) for start, end in pairs]


def split_evenly(graph: Graph, node: Node, value: Any, size: int, dim: int = 0) -> list[Value]:
    return split(graph, node, value, [part.shape[dim] for part in node.meta["val"]], dim)


def getitem(graph: Graph, node: Node, values: Any, index: int) -> Any:
    return values[index]


SHAPES: Final[Mapping[Any, Callable[..., Any]]] = {
    operator.getitem: getitem,
    aten.view.default: view,
    aten._unsafe_view.default: view,
    aten.permute.default: permute,
    aten.unsqueeze.default: unsqueeze,
    aten.expand.default: expand,
    aten.repeat.default: repeat,
    aten.repeat_interleave.self_int: repeat_interleave,
    aten.select.int: select,
    aten.slice.Tensor: sliced,
    aten.slice_scatter.default: slice_scatter,
    aten.select_scatter.default: select_scatter,
    aten.cat.default: cat,
    aten.split.Tensor: split_evenly,
    aten.split_with_sizes.default: split,
}
