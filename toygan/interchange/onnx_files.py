"""Writes networks as ONNX files."""

import logging
from pathlib import Path
from typing import Any, Final

import torch
from torch.export import ExportedProgram

from toygan.errors import BadInput
from toygan.interchange.description import file_entry, ports_of
from toygan.interchange.networks import Network

OPSET: Final = 20


def write_onnx(network: Network, program: ExportedProgram, folder: Path) -> dict[str, Any]:
    """Writes the traced network into `folder` and describes it. Inputs and outputs are named as the ports.

    Raises BadInput if the package onnxscript is missing.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise BadInput("ONNX files need the package onnxscript: pip install 'toygan[onnx]'") from None
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    made = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=OPSET,
        input_names=[port.name for port in network.inputs],
        output_names=[port.name for port in network.outputs],
        verbose=False,
    )
    if made is None:
        raise RuntimeError(f"torch could not export {network.name} to ONNX")
    for value in (*made.model.graph.inputs, *made.model.graph.outputs):
        if value.shape is not None:
            value.shape[0] = "batch"
    file = folder / f"{network.name}.onnx"
    made.save(file)
    return {
        **file_entry(file),
        "opset": OPSET,
        "inputs": ports_of(network.inputs, "onnx"),
        "outputs": ports_of(network.outputs, "onnx"),
    }
