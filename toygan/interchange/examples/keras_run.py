"""Runs the networks of this folder with Keras."""

from pathlib import Path
from typing import Any

import keras


def run(name: str, inputs: dict[str, Any]) -> list[Any]:
    """Runs a network of this folder. `inputs` may hold more inputs than the network takes."""
    model = keras.models.load_model(Path(__file__).with_name(f"{name}.keras"))
    found = model({name: inputs[name] for name in model.input})
    return [keras.ops.convert_to_numpy(value) for value in found.values()]
