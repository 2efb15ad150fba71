"""What it costs to give a model to another system: exports, pushes and installs.

`python -m tests.benchmarks travel` exports each bundled model that takes no snapshots in each format. It runs
each network at its own size, with the inputs of four products. Torch and the other system have one thread.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from tests.benchmarks.install_sizes import print_sizes
from tests.hub_server import TOKEN, running_hub
from toygan.artifact.load import load_model
from toygan.artifact.model import Model
from toygan.interchange.description import CHANNELS_AXIS, Format
from toygan.interchange.example_inputs import example_inputs
from toygan.interchange.export import export_model
from toygan.interchange.networks import Network, networks_of
from toygan.models.regions import vote_by_region
from toygan.registry.models import resolve

MODELS: Final = ("toybricks-text128", "toybricks-sketch128", "toybricks-layout128")
FORMATS: Final[tuple[Format, ...]] = ("onnx", "keras")
RUNS: Final = 3
STEP: Final = 2 / 255  # of a picture in [-1, 1]: one of its 255 steps

Arrays = Mapping[str, NDArray[Any]]
Runner = Callable[[Arrays], list[NDArray[Any]]]


def passed(model: Model) -> Iterator[tuple[Network, Arrays, list[NDArray[Any]]]]:
    """Each network with the inputs that the networks before it give, and what torch makes of them."""
    known: dict[str, NDArray[Any]] = example_inputs(model)
    for network in networks_of(model):
        given = {port.name: fitted(known[port.name], port.shape) for port in network.inputs}
        made = [each.numpy() for each in network.run(as_tensors(given))]
        yield network, given, made
        if network.name == "layout":
            paper = (known["sketch"][:, 0] + 1) / 2
            votes = zip(made[0], paper, made[1].tolist(), strict=True)
            known["predicted_layout"] = np.stack([vote_by_region(*each) for each in votes])
        elif network.outputs[0].name == "images":
            rounded = np.rint((made[0].clip(-1, 1) + 1) * 127.5) / 127.5 - 1
            known["images"] = rounded.astype(np.float32)
            known.setdefault("small", known["images"])


def fitted(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Makes pictures (B, 3, R, R) as small as a network takes them, if they are larger."""
    if values.shape[1:] == shape:
        return values
    side = shape[-1]
    cells = values.reshape(*values.shape[:2], side, values.shape[-1] // side, side, -1)
    return np.ascontiguousarray(cells.mean(axis=(3, 5)))


def as_tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in arrays.items()}


def runner(file: Path, format_: Format) -> Runner:
    """Runs an exported network, on one thread."""
    if format_ == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return lambda inputs: list(session.run(None, inputs))
    import tensorflow

    loaded = tensorflow.saved_model.load(file.with_suffix(""))
    serve = loaded.signatures["serving_default"]

    def run(inputs: Arrays, model: object = loaded) -> list[NDArray[Any]]:
        tensors = {name: tensorflow.convert_to_tensor(value) for name, value in inputs.items()}
        return [value.numpy() for value in serve(**tensors).values()]

    return run


def pictures_a_second(run: Callable[[], object], pictures: int) -> float:
    """The median of some runs after a first one."""
    run()
    times_s = []
    for _ in range(RUNS):
        began_s = time.perf_counter()
        run()
        times_s.append(time.perf_counter() - began_s)
    return pictures / statistics.median(times_s)


def moved(arrays: Arrays, axis: int) -> dict[str, NDArray[Any]]:
    return {name: np.moveaxis(x, 1, axis) if x.ndim == 4 else x for name, x in arrays.items()}


def measure(name: str, format_: Format, folder: Path) -> Iterator[str]:
    """Rows of the table for one model in one format."""
    model = load_model(resolve(name, None), torch.device("cpu"))
    export_model(model, format_, folder)
    axis = CHANNELS_AXIS[format_]
    for network, given, made in passed(model):
        file = folder / f"{network.name}.{format_}"
        run, inputs, tensors = runner(file, format_), moved(given, axis), as_tensors(given)
        found = [np.moveaxis(x, axis, 1) if x.ndim == 4 else x for x in run(inputs)]
        # TensorFlow sorts its outputs by name, torch does not.
        wanted = made if format_ == "onnx" else _by_name(network, made)
        differences = [np.abs(a - b) for a, b in zip(found, wanted, strict=True)]
        largest = max(float(each.max()) for each in differences)
        close = min(float((each <= STEP).mean()) for each in differences)
        by_torch = pictures_a_second(partial(network.run, tensors), len(made[0]))
        here = pictures_a_second(partial(run, inputs), len(made[0]))
        yield (
            f"| {name} | {network.name} | {format_} | {largest:.1e} | {close:.4%} "
            f"| {file.stat().st_size / 1e6:.1f} | {by_torch:.1f} | {here:.1f} |"
        )


def _by_name(network: Network, made: list[NDArray[Any]]) -> list[NDArray[Any]]:
    ports = [port.name for port in network.outputs]
    return [made[ports.index(name)] for name in sorted(ports)]


def print_formats() -> None:
    """The table of models by format."""
    torch.set_num_threads(1)
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    print("| model | network | format | largest difference | within 1/255 | MB | torch, pictures/s | here |")
    print("|---|---|---|---:|---:|---:|---:|---:|")
    for format_ in FORMATS:
        for name in MODELS:
            with tempfile.TemporaryDirectory(prefix="toygan-benchmark-") as folder:
                for row in measure(name, format_, Path(folder) / "exported"):
                    print(row, flush=True)


def print_hub() -> None:
    """The bytes that a push sends to a small Hub, and a pull into an empty cache reads from there."""
    with running_hub() as hub, tempfile.TemporaryDirectory(prefix="toygan-benchmark-") as folder:
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": TOKEN,
            "HF_HOME": f"{folder}/hf",
            "HF_HUB_DISABLE_XET": "1",  # the small Hub has no such store
        }
        for name in MODELS:
            hub.received_bytes = hub.sent_bytes = 0
            store = ("--name", name, "--store", f"{folder}/store")
            for arguments in (("push", name, f"hf:shop/{name}"), ("add", f"hf:shop/{name}", *store)):
                command = [sys.executable, "-m", "flows.cli", "models", *arguments]
                subprocess.run(command, env=environment, check=True, capture_output=True)
            files = sum(map(len, resolve(name, None).files.values()))
            sent, read = hub.received_bytes / 1e6, hub.sent_bytes / 1e6
            print(f"{name}: {files / 1e6:.2f} MB; pushed {sent:.2f} MB, pulled {read:.2f} MB", flush=True)


def main() -> None:
    print_formats()
    print_hub()
    print_sizes()


if __name__ == "__main__":
    main()
