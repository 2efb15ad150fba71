"""The Keras layers and operations for torch's operations on pictures. In Keras the channels come last."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from keras import layers, ops
from torch import Tensor
from torch.fx import Node

from toygan.interchange.keras_graph import Graph, Value, shape_of

aten = torch.ops.aten


def convolution(
    graph: Graph,
    node: Node,
    value: Any,
    weight: Tensor,
    bias: Tensor | None = None,
    *geometry: Any,
) -> Value:
    """`geometry` holds stride, padding, dilation and groups.

    The traced call may leave out the last of these.
    """
    defaults: tuple[Any, ...] = ((1, 1), (0, 0), (1, 1), 1)
    stride, padding, dilation, groups = (*geometry, *defaults[len(geometry) :])
    if not isinstance(weight, Tensor):
        raise RuntimeError("a convolution whose weights depend on an input has no translation to Keras")
    tensor = graph.last(value)
    if any(padding):
        tensor = layers.ZeroPadding2D(tuple(padding))(tensor)
    options: dict[str, Any] = {
        "kernel_size": tuple(weight.shape[2:]),
        "strides": tuple(stride),
        "dilation_rate": tuple(dilation),
        "use_bias": bias is not None,
    }
    biases = [] if bias is None else [bias]
    if groups == tensor.shape[-1] and weight.shape[0] == groups:
        kernel = _named(graph, weight, weight.permute(2, 3, 0, 1))
        return Value(graph.layer(layers.DepthwiseConv2D, tensor, [kernel, *biases], **options), True)
    kernel = _named(graph, weight, weight.permute(2, 3, 1, 0))
    options |= {"filters": weight.shape[0], "groups": groups}
    return Value(graph.layer(layers.Conv2D, tensor, [kernel, *biases], **options), True)


def _named(graph: Graph, weight: Tensor, changed: Tensor) -> Tensor:
    if id(weight) in graph.names:
        graph.name(changed, graph.names[id(weight)])
    return changed


def batch_norm(
    graph: Graph,
    node: Node,
    value: Value,
    *arguments: Any,
) -> tuple[Value]:
    scale, shift, mean, variance, _momentum, epsilon = arguments
    weights = [each for each in (scale, shift, mean, variance) if each is not None]
    options = {"scale": scale is not None, "center": shift is not None, "epsilon": epsilon}
    found = graph.layer(layers.BatchNormalization, graph.last(value), weights, **options)
    return (Value(found, len(found.shape) == 4),)


def group_norm(
    graph: Graph,
    node: Node,
    value: Value,
    groups: int,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    epsilon: float = 1e-5,
    *_: Any,
) -> Value:
    weights = [each for each in (scale, shift) if each is not None]
    options = {"groups": groups, "scale": scale is not None, "center": shift is not None, "epsilon": epsilon}
    layer = layers.GroupNormalization
    if weights:
        return Value(graph.layer(layer, graph.last(value), weights, **options), True)
    return Value(layer(**options)(graph.last(value)), True)


def pad(
    graph: Graph, node: Node, value: Value, sides: Sequence[int], mode: str = "constant", filled: float = 0.0
) -> Value:
    tensor = graph.last(value)
    left, right, top, bottom = sides
    if mode == "constant" and not filled:
        return Value(layers.ZeroPadding2D(((top, bottom), (left, right)))(tensor), True)
    if mode != "replicate" or len(set(sides)) != 1:
        raise RuntimeError(
            f"padding by {mode} with the sides {tuple(sides)} and the value {filled} has no translation to "
            "Keras; only padding by zeros, and by replicate with equal sides, have one"
        )
    for _ in range(left):  # mirroring a single pixel repeats the edge, so pixels are added one at a time
        tensor = ops.pad(tensor, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="symmetric")
    return Value(tensor, True)


def enlarged(graph: Graph, node: Node, value: Value, *_: Any) -> Value:
    """Enlarges a picture by repeating each pixel."""
    tensor = graph.last(value)
    factors = tuple(new // old for new, old in zip(shape_of(node)[2:], tensor.shape[1:3], strict=True))
    return Value(layers.UpSampling2D(factors)(tensor), True)


def resized(graph: Graph, node: Node, value: Value, size: Any, *options: Any) -> Value:
    """Resizes each dimension separately, with torch's interpolation weights.

    Keras would use other weights at the edges.
    """
    align = options[0] if options else False
    tensor = graph.first(value)
    for length in shape_of(node)[:1:-1]:
        kernel = _weights(node.target, tensor.shape[-1], length, align)
        tensor = graph.layer(layers.Dense, tensor, [kernel], units=length, use_bias=False)
        tensor = ops.swapaxes(tensor, 2, 3)
    return Value(tensor)


def _weights(resize: Any, old: int, new: int, align: bool) -> Tensor:
    """Returns the (old, new) weights of a resize. The identity's columns stay, and its rows are resized."""
    found: Tensor = resize(torch.eye(old)[None, None], [new, old], align, None)
    return found[0, 0].T


def average_pool(
    graph: Graph,
    node: Node,
    value: Value,
    size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
) -> Value:
    """Zeros of the padding count in the mean, as by default in torch."""
    tensor = graph.last(value)
    if any(padding):
        tensor = layers.ZeroPadding2D(tuple(padding))(tensor)
    return Value(layers.AveragePooling2D(tuple(size), tuple(stride) or None)(tensor), True)


def adaptive_average(graph: Graph, node: Node, value: Value, size: Sequence[int]) -> Value:
    tensor = graph.last(value)
    factors = tuple(old // new for new, old in zip(size, tensor.shape[1:3], strict=True))
    if any(old % new for new, old in zip(size, tensor.shape[1:3], strict=True)):
        raise RuntimeError("pooling to a size that does not divide the old one has no translation to Keras")
    return value if factors == (1, 1) else Value(layers.AveragePooling2D(factors)(tensor), True)


def max_pool(graph: Graph, node: Node, value: Value, size: Sequence[int], *stride: Any) -> Value:
    if stride and list(stride[0]) not in ([], list(size)):
        raise RuntimeError("pooling with another stride has no translation to Keras")
    return Value(layers.MaxPooling2D(tuple(size))(graph.last(value)), True)


def pixel_shuffle(graph: Graph, node: Node, value: Value, factor: int) -> Value:
    tensor = graph.last(value)
    _, rows, columns, channels = tensor.shape
    kept = channels // factor**2
    tensor = ops.reshape(tensor, (-1, rows, columns, kept, factor, factor))
    tensor = ops.transpose(tensor, (0, 1, 4, 2, 5, 3))
    return Value(ops.reshape(tensor, (-1, rows * factor, columns * factor, kept)), True)


def pixel_unshuffle(graph: Graph, node: Node, value: Value, factor: int) -> Value:
    tensor = graph.last(value)
    _, rows, columns, channels = tensor.shape
    small = (rows // factor, columns // factor)
    tensor = ops.reshape(tensor, (-1, small[0], factor, small[1], factor, channels))
    tensor = ops.transpose(tensor, (0, 1, 3, 5, 2, 4))
    return Value(ops.reshape(tensor, (-1, *small, channels * factor**2)), True)


PICTURES: Final[Mapping[Any, Callable[..., Any]]] = {
    aten.conv2d.default: convolution,
    aten._native_batch_norm_legit_no_training.default: batch_norm,
    aten.group_norm.default: group_norm,
    aten.pad.default: pad,
    aten.upsample_nearest2d.vec: enlarged,
    aten.upsample_bilinear2d.vec: resized,
    aten.upsample_bicubic2d.vec: resized,
    aten._upsample_bilinear2d_aa.vec: resized,
    aten.avg_pool2d.default: average_pool,
    aten.adaptive_avg_pool2d.default: adaptive_average,
    aten.max_pool2d.default: max_pool,
    aten.pixel_shuffle.default: pixel_shuffle,
    aten.pixel_unshuffle.default: pixel_unshuffle,
}
