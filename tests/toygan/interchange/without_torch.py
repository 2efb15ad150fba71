"""Runs exported networks with onnxruntime or Keras where neither torch nor toygan can be imported.

Started as a program with a folder that has one folder a case. It writes `*.outputs.npz` beside
`*.inputs.npz`.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

BATCHES = (1, 3, 32)
Network = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Refuses:
    """An import hook that refuses torch and toygan."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: object = None
    ) -> ModuleSpec | None:
        if name.split(".")[0] in ("torch", "toygan"):
            raise ImportError(f"{name} is refused")
        return None


def main(folder: Path) -> None:
    sys.meta_path.insert(0, Refuses())
    for file in sorted(folder.glob("*/*.onnx")):
        _run(file, by_onnxruntime(file))
    for file in sorted(folder.glob("*/*.keras")):
        _run(file, by_keras(file))
        if file.with_suffix("").is_dir():
            _run(file.with_suffix(".saved_model"), by_tensorflow(file.with_suffix("")))


def _run(file: Path, network: Network) -> None:
    import numpy as np

    inputs = np.load(file.parent / f"{file.stem}.inputs.npz")
    found: dict[str, Any] = {}
    for pictures in BATCHES:
        given = {name: inputs[name][:pictures] for name in inputs}
        found |= {f"{name}-{pictures}": value for name, value in network(given).items()}
    np.savez(f"{file}.outputs.npz", **found)


def by_onnxruntime(file: Path, threads: int = 0) -> Network:
    """`threads` 0: as many as there are cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))


def by_keras(file: Path) -> Network:
    import keras

    model = keras.models.load_model(file)
    return lambda inputs: {name: value.numpy() for name, value in model(inputs).items()}


def by_tensorflow(folder: Path) -> Network:
    import tensorflow

    loaded = tensorflow.saved_model.load(folder)
    serve = loaded.signatures["serving_default"]

    def run(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        tensors = {name: tensorflow.convert_to_tensor(value) for name, value in inputs.items()}
        return {name: value.numpy() for name, value in serve(**tensors).items()}

    # The signatures hold their model by a weak reference.
    run.model = loaded  # type: ignore[attr-defined]
    return run


if __name__ == "__main__":
    main(Path(sys.argv[1]))
