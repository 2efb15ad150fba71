"""Translates a traced network to a Keras model of built-in layers and operations.

A value that depends on no input is computed once, with torch, and becomes a weight. All other values become
Keras tensors.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec
from torch.fx import Node
from torch.fx.node import map_arg

from toygan.interchange.description import shape_in
from toygan.interchange.keras_graph import Batch, Graph, Value
from toygan.interchange.keras_operations import OPERATIONS
from toygan.interchange.networks import Network


def translate(network: Network, program: ExportedProgram) -> Any:
    """Returns the `keras.Model` of a traced network: a dict of inputs by name to a dict of outputs.

    Inputs and outputs with channels have them last. The batch may have any size.
    """
    program = program.run_decompositions({})
    inputs = {
        port.name: keras.Input(shape_in(port, "keras"), dtype=port.dtype, name=port.name)
        for port in network.inputs
    }
    graph = Graph(inputs)
    ports = iter(Value(tensor, len(tensor.shape) == 4) for tensor in inputs.values())
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    found: dict[Node, Any] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            weight = _weight(graph, program, specs[node.name])
            found[node] = next(ports) if weight is None else weight
        elif node.op == "call_function":
            args, kwargs = map_arg((node.args, node.kwargs), found.__getitem__)
            values = list(_flat((args, kwargs)))
            if not any(isinstance(each, Value | Batch) for each in values):
                found[node] = _folded(graph, node, args, kwargs, values)
            elif node.target in OPERATIONS:
                found[node] = OPERATIONS[node.target](graph, node, *args, **kwargs)
            else:
                raise RuntimeError(f"{node.target} of {network.name} has no translation to Keras")
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    tensors = [found[node] for node in output.args[0]]
    outputs = {
        port.name: graph.last(tensor) if len(port.shape) == 3 else graph.first(tensor)
        for port, tensor in zip(network.outputs, tensors, strict=True)
    }
    return keras.Model(inputs, outputs, name=network.name)


def _weight(graph: Graph, program: ExportedProgram, spec: InputSpec) -> Tensor | None:
    if spec.kind == InputKind.USER_INPUT or spec.target is None:
        return None
    of = program.constants if spec.target in program.constants else program.state_dict
    weight: Tensor = of[spec.target].detach()
    graph.name(weight, spec.target)
    return weight


def _folded(graph: Graph, node: Node, args: Any, kwargs: Any, values: Sequence[Any]) -> Any:
    """Computes a node that depends on no input. The result gets the name of the first weight in it."""
    assert callable(node.target)
    with torch.no_grad():
        result = node.target(*args, **kwargs)
    name = next((graph.names[id(each)] for each in values if id(each) in graph.names), None)
    if name is not None and isinstance(result, Tensor):
        graph.name(result, name)
    return result


def _flat(values: Any) -> Iterable[Any]:
    if isinstance(values, tuple | list):
        for each in values:
            yield from _flat(each)
    elif isinstance(values, dict):
        yield from _flat(list(values.values()))
    else:
        yield values
