"""The Keras tensors of a translated network, and the layers that its operations share.

Pictures have their channels last, as in Keras, unless an operation needs torch's order.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import keras
from keras import ops
from torch import Tensor
from torch.fx import Node

_TO_LAST: Final = (0, 2, 3, 1)
_TO_FIRST: Final = (0, 3, 1, 2)
# a constant with more numbers than this becomes a weight instead of a part of the config
_LARGEST_LITERAL: Final = 4096


@dataclass(frozen=True, eq=False)
class Value:
    """A Keras tensor. With `is_last`, its dimensions are (B, H, W, C), where torch has (B, C, H, W)."""

    tensor: Any
    is_last: bool = False


class Batch:
    """Stands for the number of pictures of a batch where torch asks for a size."""


class Graph:
    """The things that translated operations share: layers with equal weights, and values in both orders of
    dimensions.
    """

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self.names: dict[int, str] = {}  # maps the id of a weight to its name
        self._kept: list[Tensor] = []  # keeps the weights alive, so that ids stay valid
        self._layers: dict[Any, Any] = {}
        self._taken: dict[str, int] = {}
        self._orders: dict[int, tuple[Value, Any]] = {}
        source = next(iter(inputs.values()))
        for _ in range(len(source.shape) - 1):
            source = source[:, 0]
        self.zeros = ops.zeros_like(source, dtype="int32")  # (B,)

    def name(self, weight: Tensor, name: str) -> None:
        self.names[id(weight)] = name
        self._kept.append(weight)

    def layer(self, make: Callable[..., Any], value: Any, weights: Sequence[Tensor], **options: Any) -> Any:
        """Calls a layer of class `make` with `weights`. Calls with equal weights share one layer."""
        arrays = [weight.detach().contiguous().numpy() for weight in weights]
        digest = sha256(b"".join(each.tobytes() for each in arrays)).digest()
        key = (make, digest, *(each.shape for each in arrays), repr(sorted(options.items())))
        made = self._layers.get(key)
        if made is None:
            made = self._layers[key] = make(name=self._free_name(weights), **options)
            found = made(value)
            made.set_weights(arrays)
            return found
        return made(value)

    def first(self, value: Any) -> Any:
        """Returns a Keras tensor or a constant in torch's order of dimensions."""
        if isinstance(value, Tensor):
            return self._literal(value)
        if not isinstance(value, Value):
            return value
        return self._turned(value, _TO_FIRST) if value.is_last else value.tensor

    def last(self, value: Any) -> Any:
        """Returns a Keras tensor or a constant. With four dimensions, the channels come last."""
        if isinstance(value, Tensor):
            return self._literal(value.permute(_TO_LAST) if value.ndim == 4 else value)
        if not isinstance(value, Value):
            return value
        if value.is_last or len(value.tensor.shape) != 4:
            return value.tensor
        return self._turned(value, _TO_LAST)

    def batched(self, constant: Tensor) -> Any:
        """Repeats a constant for each picture of the batch: (B, *shape)."""
        rows = constant.float().reshape(1, -1)
        self.name(rows, self.names.get(id(constant), "constant"))
        options = {"input_dim": 1, "output_dim": rows.shape[1]}
        found = self.layer(keras.layers.Embedding, self.zeros, [rows], **options)
        return ops.reshape(found, (-1, *constant.shape))

    def _literal(self, constant: Tensor) -> Any:
        if constant.numel() <= _LARGEST_LITERAL:
            return constant.detach().contiguous().numpy()
        return ops.cast(self.batched(constant)[0], str(constant.dtype).removeprefix("torch."))

    def _turned(self, value: Value, order: tuple[int, ...]) -> Any:
        if id(value) not in self._orders:
            self._orders[id(value)] = value, ops.transpose(value.tensor, order)
        return self._orders[id(value)][1]

    def _free_name(self, weights: Sequence[Tensor]) -> str | None:
        named = next((self.names[id(each)] for each in weights if id(each) in self.names), None)
        if named is None:
            return None
        name = named.removeprefix("generator.").rpartition(".")[0].replace(".", "_") or named
        self._taken[name] = self._taken.get(name, 0) + 1
        return name if self._taken[name] == 1 else f"{name}_part{self._taken[name]}"


def shape_of(node: Node) -> tuple[int, ...]:
    """Returns the shape of a node's result, with -1 for a size that depends on the batch."""
    return tuple(size if isinstance(size, int) else -1 for size in node.meta["val"].shape)


def dtype_of(node: Node) -> str:
    """Returns the dtype of a node's result by Keras's name."""
    return str(node.meta["val"].dtype).removeprefix("torch.")


def cast(tensor: Any, dtype: str) -> Any:
    """Casts a Keras tensor or an array. Returns any other value unchanged."""
    if not hasattr(tensor, "dtype"):
        return tensor
    if hasattr(tensor, "astype"):
        return tensor.astype(dtype)
    return tensor if tensor.dtype == dtype else ops.cast(tensor, dtype)
