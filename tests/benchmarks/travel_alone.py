"""Runs exported networks where neither torch nor toygan need be installed, for `tests.benchmarks.travel`.

Started as a program with the folder of an export. Beside each `NAME.inputs.npz`, the inputs of some pictures,
it writes `NAME.outputs.npz`, the outputs for batches of 1, 3 and all of them, with the pictures a second.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

TIMED = 3  # pictures in a batch whose runs are timed
RUNS = 3


def pictures_a_second(run: Callable[[], object], pictures: int) -> float:
    """The median of some runs, after others have warmed it up."""
    times_s = []
    for _ in range(RUNS):
        began_s = time.perf_counter()
        run()
        times_s.append(time.perf_counter() - began_s)
    return pictures / statistics.median(times_s)


def main(folder: Path) -> None:
    import numpy as np

    # An isolated interpreter looks for modules in no folder of this repository.
    sys.path.insert(0, str(Path(__file__).parents[1] / "toygan" / "interchange"))
    from without_torch import BATCHES, by_keras, by_onnxruntime, by_tensorflow

    for file in sorted(folder.glob("*.inputs.npz")):
        network = folder / file.name.removesuffix(".inputs.npz")
        inputs = dict(np.load(file))
        if (onnx := network.with_suffix(".onnx")).exists():
            run = by_onnxruntime(onnx, threads=1)
        else:
            run = by_tensorflow(network)
        found: dict[str, Any] = {}
        for pictures in sorted({min(each, len(next(iter(inputs.values())))) for each in BATCHES}):
            made = run({name: value[:pictures] for name, value in inputs.items()})
            found |= {f"{name}-{pictures}": value for name, value in made.items()}
        few = {name: value[:TIMED] for name, value in inputs.items()}
        found["pictures_a_second"] = pictures_a_second(partial(run, few), TIMED)
        if (keras_file := network.with_suffix(".keras")).exists():
            made = by_keras(keras_file)(few)
            found |= {f"{name}-{TIMED}-keras": value for name, value in made.items()}
        np.savez(folder / f"{network.name}.outputs.npz", **found)
    if loaded := {"torch", "toygan"} & sys.modules.keys():
        raise RuntimeError(f"imported here: {loaded}")


if __name__ == "__main__":
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    main(Path(sys.argv[1]))
