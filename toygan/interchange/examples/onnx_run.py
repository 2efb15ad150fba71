"""Runs the networks of this folder with onnxruntime."""

from pathlib import Path
from typing import Any

import onnxruntime


def run(name: str, inputs: dict[str, Any]) -> list[Any]:
    """Runs a network of this folder. `inputs` may hold more inputs than the network takes."""
    file = Path(__file__).with_name(f"{name}.onnx")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    wanted = [port.name for port in session.get_inputs()]
    found: list[Any] = session.run(None, {name: inputs[name] for name in wanted})
    return found
