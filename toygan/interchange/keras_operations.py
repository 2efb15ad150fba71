"""The Keras layer or operation for each operation of torch that the traced networks use.

Each function takes the graph, the node and the node's arguments, and returns a `Value`. Arguments that depend
on the network's inputs are `Value`s. All other arguments are torch's own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from keras import KerasTensor, layers, ops
from torch import Tensor
from torch.fx import Node

from toygan.interchange.keras_graph import Batch, Graph, Value, cast, dtype_of, shape_of
from toygan.interchange.keras_pictures import PICTURES
from toygan.interchange.keras_shapes import SHAPES

aten = torch.ops.aten


def elementwise(function: Callable[..., Any], dtype: str | None = None) -> Callable[..., Value]:
    """Translates an operation on single numbers, in either order of dimensions. Types follow torch."""

    def translated(graph: Graph, node: Node, *operands: Any, **options: Any) -> Value:
        is_last = any(isinstance(each, Value) and each.is_last for each in operands)
        is_last &= all(_rank(each) in (0, 4) for each in operands)
        order = graph.last if is_last else graph.first
        common = dtype or _promoted(node, operands)
        tensors = [cast(order(each), common) for each in operands]
        return Value(function(*tensors, **options), is_last)

    return translated


def _rank(operand: Any) -> int:
    if isinstance(operand, Value):
        return len(operand.tensor.shape)
    return operand.ndim if isinstance(operand, Tensor) else 0


def _promoted(node: Node, operands: Sequence[Any]) -> str:
    """Returns the type in which torch computes. A plain number can only change it from int to float."""
    types = [
        torch.empty((1,) * _rank(each), dtype=getattr(torch, _type_name(each)))
        if isinstance(each, Value | Tensor)
        else each
        for each in operands
    ]
    found = types[0]
    for each in types[1:]:
        found = torch.empty((1,) * _rank(each), dtype=torch.result_type(found, each))
    return str(found.dtype).removeprefix("torch.")


def _type_name(value: Value | Tensor) -> str:
    if isinstance(value, Value):
        return str(value.tensor.dtype)
    return str(value.dtype).removeprefix("torch.")


def _add(one: Any, other: Any) -> Any:
    """Adds two operands, with a constant as the first operand.

    Keras would take a constant second operand for a bias, and add a square one along the wrong dimension.
    """
    return ops.add(one, other) if isinstance(other, KerasTensor) else ops.add(other, one)


def where(graph: Graph, node: Node, condition: Value, chosen: Any, other: Any) -> Value:
    branches = [cast(graph.first(each), dtype_of(node)) for each in (chosen, other)]
    return Value(ops.where(graph.first(condition), *branches))


def masked_fill(graph: Graph, node: Node, value: Any, mask: Any, filled: float) -> Value:
    return where(graph, node, mask, filled, value)


def addcmul(graph: Graph, node: Node, value: Any, one: Any, other: Any) -> Value:
    return elementwise(lambda a, b, c: _add(a, ops.multiply(b, c)))(graph, node, value, one, other)


def lerp(graph: Graph, node: Node, start: Any, end: Any, weight: float) -> Value:
    return elementwise(lambda a, b: _add(a, weight * (b - a)))(graph, node, start, end)


def rsub(graph: Graph, node: Node, value: Any, number: float) -> Value:
    return elementwise(lambda a: number - a)(graph, node, value)


def leaky_relu(graph: Graph, node: Node, value: Any, slope: float = 0.01) -> Value:
    return elementwise(lambda a: ops.leaky_relu(a, negative_slope=slope))(graph, node, value)


def clamp(graph: Graph, node: Node, value: Any, low: Any = None, high: Any = None) -> Value:
    def limited(tensor: Any) -> Any:
        tensor = tensor if low is None else ops.maximum(tensor, low)
        return tensor if high is None else ops.minimum(tensor, high)

    return elementwise(limited)(graph, node, value)


def clamp_min(graph: Graph, node: Node, value: Any, low: Any) -> Value:
    return clamp(graph, node, value, low)


def softplus(graph: Graph, node: Node, value: Any) -> Value:
    return elementwise(ops.softplus)(graph, node, value)


def same(graph: Graph, node: Node, value: Any, *_: Any, **__: Any) -> Any:
    return value


def to_dtype(graph: Graph, node: Node, value: Value, **_: Any) -> Value:
    return Value(ops.cast(value.tensor, dtype_of(node)), value.is_last)


def copied(graph: Graph, node: Node, into: Any, value: Any) -> Value:
    """Returns `value` in the type and shape of `into`."""
    zeros = ops.zeros_like(graph.first(into), dtype="int32" if dtype_of(node) == "bool" else dtype_of(node))
    return Value(ops.cast(zeros + ops.cast(graph.first(value), zeros.dtype), dtype_of(node)))


def zeros_like(graph: Graph, node: Node, value: Any, **_: Any) -> Value:
    return Value(ops.zeros_like(graph.first(value), dtype=dtype_of(node)))


def ones_like(graph: Graph, node: Node, value: Any, **_: Any) -> Value:
    return Value(ops.ones_like(graph.first(value), dtype=dtype_of(node)))


def new_zeros(graph: Graph, node: Node, value: Any, size: Sequence[Any], **_: Any) -> Value:
    rest = shape_of(node)[1:]
    zeros = ops.cast(ops.reshape(graph.zeros, (-1, *(1 for _ in rest))), dtype_of(node))
    return Value(ops.tile(zeros, (1, *rest)))


def batch_size(graph: Graph, node: Node, value: Any, dim: int) -> Batch:
    if dim != 0:
        raise RuntimeError("only the batch has a free size")
    return Batch()


# Tables, sums and products


def embedding(graph: Graph, node: Node, table: Tensor, index: Any) -> Value:
    options = {"input_dim": table.shape[0], "output_dim": table.shape[1]}
    return Value(graph.layer(layers.Embedding, graph.first(index), [table], **options))


def indexed(graph: Graph, node: Node, table: Any, indices: Sequence[Any]) -> Value:
    (index,) = indices
    return Value(ops.take(graph.first(table), graph.first(index), axis=0))


def one_hot(graph: Graph, node: Node, value: Any, classes: int) -> Value:
    return Value(ops.one_hot(graph.first(value), classes, dtype="int64"))


def reduced(function: Callable[..., Any], dtype: str | None = None) -> Callable[..., Value]:
    """Translates a reduction over some dimensions. Booleans count as 0 and 1."""

    def translated(graph: Graph, node: Node, value: Any, dim: Any, keepdim: bool = False) -> Value:
        axis = tuple(dim) if isinstance(dim, Sequence) else dim
        tensor = cast(graph.first(value), dtype or dtype_of(node))
        return Value(function(tensor, axis=axis, keepdims=keepdim))

    return translated


def position(function: Callable[..., Any]) -> Callable[..., Value]:
    def translated(graph: Graph, node: Node, value: Any, dim: int) -> Value:
        return Value(ops.cast(function(graph.first(value), axis=dim), "int64"))

    return translated


def softmax(graph: Graph, node: Node, value: Any, dim: int, *_: Any) -> Value:
    is_last = isinstance(value, Value) and value.is_last and dim == 1
    tensor = graph.last(value) if is_last else graph.first(value)
    return Value(ops.softmax(tensor, axis=3 if is_last else dim), is_last)


def linear(graph: Graph, node: Node, value: Any, weight: Any, bias: Any = None) -> Value:
    return _dense(graph, value, weight.T, bias)


def matmul(graph: Graph, node: Node, value: Any, weight: Any) -> Value:
    if isinstance(weight, Tensor) and weight.ndim == 1:
        return Value(_dense(graph, value, weight[:, None], None).tensor[..., 0])
    return _dense(graph, value, weight, None)


def _dense(graph: Graph, value: Any, kernel: Any, bias: Any) -> Value:
    if not isinstance(kernel, Tensor):
        raise RuntimeError("a product of two values has no translation to Keras")
    weights = [kernel] if bias is None else [kernel, bias]
    options = {"units": kernel.shape[1], "use_bias": bias is not None}
    return Value(graph.layer(layers.Dense, graph.first(value), weights, **options))


def einsum(graph: Graph, node: Node, equation: str, values: Sequence[Any]) -> Value:
    return Value(ops.einsum(equation, *(graph.first(each) for each in values)))


_UNARY: Final[Mapping[Any, Callable[..., Any]]] = {
    aten.exp.default: ops.exp,
    aten.relu.default: ops.relu,
    aten.silu.default: ops.silu,
    aten.sigmoid.default: ops.sigmoid,
    aten.tanh.default: ops.tanh,
    aten.sqrt.default: ops.sqrt,
    aten.rsqrt.default: ops.rsqrt,
    aten.square.default: ops.square,
    aten.bitwise_not.default: ops.logical_not,
}
_BINARY: Final[Mapping[Any, Callable[..., Any]]] = {
    aten.add.Tensor: _add,
    aten.sub.Tensor: ops.subtract,
    aten.mul.Tensor: ops.multiply,
    aten.div.Tensor: ops.true_divide,
    aten.maximum.default: ops.maximum,
    aten.minimum.default: ops.minimum,
    aten.eq.Tensor: ops.equal,
    aten.ne.Tensor: ops.not_equal,
    aten.ne.Scalar: ops.not_equal,
    aten.gt.Tensor: ops.greater,
    aten.gt.Scalar: ops.greater,
    aten.lt.Scalar: ops.less,
    aten.__and__.Tensor: ops.logical_and,
    aten.bitwise_and.Tensor: ops.logical_and,
    aten.bitwise_or.Tensor: ops.logical_or,
}
OPERATIONS: Final[Mapping[Any, Callable[..., Any]]] = {
    **PICTURES,
    **SHAPES,
    **{target: elementwise(function) for target, function in {**_UNARY, **_BINARY}.items()},
    aten._assert_tensor_metadata.default: same,
    aten.clone.default: same,
    aten._to_copy.default: to_dtype,
    aten.copy.default: copied,
    aten.zeros_like.default: zeros_like,
    aten.ones_like.default: ones_like,
    aten.new_zeros.default: new_zeros,
    aten.sym_size.int: batch_size,
    aten.addcmul.default: addcmul,
    aten.lerp.Scalar: lerp,
    aten.rsub.Scalar: rsub,
    aten.leaky_relu.default: leaky_relu,
    aten.softplus.default: softplus,
    aten.clamp.default: clamp,
    aten.clamp_min.default: clamp_min,
    aten.hardtanh.default: clamp,
    aten.where.self: where,
    aten.where.ScalarOther: where,
    aten.masked_fill.Scalar: masked_fill,
    aten.embedding.default: embedding,
    aten.index.Tensor: indexed,
    aten.one_hot.default: one_hot,
    aten.sum.dim_IntList: reduced(ops.sum),
    aten.mean.dim: reduced(ops.mean),
    aten.any.dim: reduced(ops.any, "bool"),
    aten.argmax.default: position(ops.argmax),
    aten.argmin.default: position(ops.argmin),
    aten.softmax.int: softmax,
    aten.linear.default: linear,
    aten.matmul.default: matmul,
    aten.einsum.default: einsum,
}
