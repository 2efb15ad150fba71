"""Writes networks as Keras files and TensorFlow SavedModels."""

import os
from pathlib import Path
from typing import Any

from torch.export import ExportedProgram

from toygan.errors import BadInput
from toygan.interchange.description import file_entry, ports_of
from toygan.interchange.networks import Network


def write_keras(network: Network, program: ExportedProgram, folder: Path) -> dict[str, Any]:
    """Writes the traced network into `folder` as `NAME.keras` and as a SavedModel, `NAME/`; describes both.

    Raises BadInput if TensorFlow is missing, or if Keras is set to use another backend.
    """
    # TensorFlow is imported after triton, which tracing imports. The other order crashes the process.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import keras
        import tensorflow  # noqa: F401
    except ImportError:
        raise BadInput("Keras files need TensorFlow: pip install 'toygan[keras]'") from None
    if keras.backend.backend() != "tensorflow":
        raise BadInput(f"Keras uses {keras.backend.backend()} here; set KERAS_BACKEND=tensorflow")
    from toygan.interchange.keras_translate import translate

    model = translate(network, program)
    file, saved = folder / f"{network.name}.keras", folder / network.name
    model.save(file)
    model.export(saved, format="tf_saved_model", verbose=False)
    contents = sorted(each for each in saved.rglob("*") if each.is_file())
    return {
        **file_entry(file),
        "saved_model": [
            {**file_entry(each), "file": each.relative_to(folder).as_posix()} for each in contents
        ],
        "keras": keras.__version__,
        "inputs": ports_of(network.inputs, "keras"),
        "outputs": ports_of(network.outputs, "keras"),
    }
