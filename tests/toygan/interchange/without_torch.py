"""Runs exported networks with onnxruntime where neither torch nor toygan can be imported.

Started as a program with a folder that has one folder a case; it writes `outputs.npz` beside `inputs.npz`.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

BATCHES = (1, 3, 32)


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
    import numpy as np
    import onnxruntime

    for file in sorted(folder.glob("*/*.onnx")):
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        inputs = np.load(file.with_suffix(".inputs.npz"))
        found = {}
        for pictures in BATCHES:
            given = {port.name: inputs[port.name][:pictures] for port in session.get_inputs()}
            names = [port.name for port in session.get_outputs()]
            for name, value in zip(names, session.run(names, given), strict=True):
                found[f"{name}-{pictures}"] = value
        np.savez(file.with_suffix(".outputs.npz"), **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
