"""What it costs to give a model to another system: exports, pushes and installs.

    python -m tests.benchmarks.travel [--only NAME]... [--format onnx|keras]... [--python FORMAT=PATH]...

NAME is a bundled model, a family, `hub` or `sizes`; without it all are measured, as `python -m
tests.benchmarks travel` does. Bundled models have their own size. Families have the size of their preset,
64 pixels, and random weights in all layers. Each network runs in batches of 1, 3 and 32; at 512 pixels this
takes up to 4 GB of memory in ONNX. The pictures a second are those of batches of 3. Torch and the other
system have one thread. The other system runs in a process of its own, by PATH if one is named: an
environment with onnxruntime or tensorflow-cpu alone.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray

from tests.benchmarks import travel_alone
from tests.benchmarks.install_sizes import print_sizes
from tests.benchmarks.travel_alone import TIMED, pictures_a_second
from tests.hub_server import TOKEN, running_hub
from tests.models import CATEGORIES
from tests.toygan.interchange.families import filled_model
from tests.toygan.interchange.without_torch import BATCHES
from toygan.artifact.load import load_model
from toygan.artifact.model import Model
from toygan.interchange.description import CHANNELS_AXIS, Format
from toygan.interchange.example_inputs import example_inputs
from toygan.interchange.export import export_model
from toygan.interchange.networks import Network, networks_of
from toygan.models.regions import vote_by_region
from toygan.models.steering import steer
from toygan.models.studio import StudioLight
from toygan.registry.models import bundled_models, resolve
from toygan.training.presets import PRESETS

FAMILIES: Final = ("mlp", "dcgan", "stylegan", "projected", "pix2pix", "spade")
FORMATS: Final[tuple[Format, ...]] = ("onnx", "keras")
PICTURES: Final = max(BATCHES)
AT_ONCE: Final = 4  # torch makes so many pictures at a time, which takes less memory
STEP: Final = 2 / 255  # of a picture in [-1, 1]: one of its 255 steps

Arrays = Mapping[str, NDArray[Any]]


def inputs_for(model: Model) -> dict[str, NDArray[Any]]:
    """The example inputs again and again, each time with other latents and noise."""
    rng = np.random.default_rng(0)
    found = {}
    for name, few in example_inputs(model).items():
        many = few[np.arange(PICTURES) % len(few)]
        is_random = name in ("latents", "noise")
        found[name] = rng.standard_normal(many.shape, dtype=np.float32) if is_random else many
    return found


def passed(model: Model) -> Iterator[tuple[Network, Arrays, list[NDArray[Any]]]]:
    """Each network with the inputs that the networks before it give, and what torch makes of them."""
    known = inputs_for(model)
    for network in networks_of(model):
        given = {port.name: fitted(known[port.name], port.shape) for port in network.inputs}
        made = made_by_torch(network, given)
        yield network, given, made
        if network.name == "layout":
            paper = (known["sketch"][:, 0] + 1) / 2
            votes = zip(made[0], paper, made[1].tolist(), strict=True)
            known["predicted_layout"] = np.stack([vote_by_region(*each) for each in votes])
        elif network.name == "generator" and len(made) == 2:
            known["images"] = in_8_bits(joined(model, known, *made))
        elif network.outputs[0].name == "images":
            known["images"] = in_8_bits(made[0])
            known.setdefault("small", known["images"])


def made_by_torch(network: Network, inputs: Arrays) -> list[NDArray[Any]]:
    parts = []
    for first in range(0, PICTURES, AT_ONCE):
        few = {name: value[first : first + AT_ONCE] for name, value in inputs.items()}
        parts.append([each.numpy() for each in network.run(as_tensors(few))])
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


def joined(model: Model, known: Arrays, products: NDArray[Any], grounds: NDArray[Any]) -> NDArray[Any]:
    """Joins both outputs of a studio."""
    light = np.asarray(cast(StudioLight, model.generator.light).matrix)
    masks = (known["photo"][:, 3] + 1) / 2
    steered = [steer(*each, light) for each in zip(products, masks, known["colour"], strict=True)]
    mask = masks[:, None]
    made: NDArray[Any] = mask * np.stack(steered) + (1 - mask) * grounds
    return made


def in_8_bits(pictures: NDArray[Any]) -> NDArray[np.float32]:
    return (np.rint((pictures.clip(-1, 1) + 1) * 127.5) / 127.5 - 1).astype(np.float32)


def fitted(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Makes pictures (B, 3, R, R) as small as a network takes them, if they are larger."""
    if values.shape[1:] == shape:
        return values
    side = shape[-1]
    cells = values.reshape(*values.shape[:2], side, values.shape[-1] // side, side, -1)
    return np.ascontiguousarray(cells.mean(axis=(3, 5)))


def as_tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in arrays.items()}


def moved(arrays: Arrays, axis: int) -> dict[str, NDArray[Any]]:
    return {name: np.moveaxis(x, 1, axis) if x.ndim == 4 else x for name, x in arrays.items()}


def measure(name: str, format_: Format, folder: Path, python: str) -> Iterator[str]:
    """Rows of the table for one model in one format."""
    model = model_named(name)
    export_model(model, format_, folder)
    axis = CHANNELS_AXIS[format_]
    wanted, speeds = {}, {}
    for network, given, made in passed(model):
        np.savez(folder / f"{network.name}.inputs.npz", allow_pickle=False, **moved(given, axis))
        outputs = dict(zip([port.name for port in network.outputs], made, strict=True))
        wanted[network.name] = moved(outputs, axis)
        few = as_tensors({name: value[:TIMED] for name, value in given.items()})
        speeds[network.name] = pictures_a_second(partial(network.run, few), TIMED)
    subprocess.run([python, "-I", travel_alone.__file__, folder], check=True)
    for network_name, outputs in wanted.items():
        found = np.load(folder / f"{network_name}.outputs.npz")
        largest, close = compared(found, outputs)
        size = (folder / f"{network_name}.{format_}").stat().st_size / 1e6
        yield (
            f"| {name} | {network_name} | {format_} | {largest:.1e} | {close:.4%} "
            f"| {size:.1f} | {speeds[network_name]:.1f} | {float(found['pictures_a_second']):.1f} |"
        )


def compared(found: Arrays, wanted: Arrays) -> tuple[float, float]:
    """The largest difference in all batches, and the lowest share of numbers that differ by at most STEP."""
    largest, close = 0.0, 1.0
    for key in found:
        name, _, pictures = key.removesuffix("-keras").partition("-")
        if name in wanted:
            difference = np.abs(found[key] - wanted[name][: int(pictures)])
            largest, close = (
                max(largest, float(difference.max())),
                min(close, float((difference <= STEP).mean())),
            )
    return largest, close


def model_named(name: str) -> Model:
    """A bundled model, or a model of a family with random weights and the networks of its preset."""
    if name in bundled_models():
        return load_model(resolve(name, None), torch.device("cpu"))
    preset = PRESETS[name]
    network = {"resolution": preset.resolution, "categories": len(CATEGORIES), **preset.network}
    return filled_model(name, network)


def print_formats(names: Sequence[str], formats: Sequence[Format], pythons: Mapping[str, str]) -> None:
    """The table of models by format."""
    torch.set_num_threads(1)
    print("| model | network | format | largest difference | within 1/255 | MB | torch, pictures/s | here |")
    print("|---|---|---|---:|---:|---:|---:|---:|", flush=True)
    for name in names:
        for format_ in formats:
            with tempfile.TemporaryDirectory(prefix="toygan-benchmark-") as folder:
                python = pythons.get(format_, sys.executable)
                for row in measure(name, format_, Path(folder) / "exported", python):
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
        for name in bundled_models():
            hub.received_bytes = hub.sent_bytes = 0
            store = ("--name", name, "--store", f"{folder}/store")
            for arguments in (("push", name, f"hf:shop/{name}"), ("add", f"hf:shop/{name}", *store)):
                command = [sys.executable, "-m", "flows.cli", "models", *arguments]
                subprocess.run(command, env=environment, check=True, capture_output=True)
            files = sum(map(len, resolve(name, None).files.values()))
            sent, read = hub.received_bytes / 1e6, hub.sent_bytes / 1e6
            print(f"{name}: {files / 1e6:.2f} MB; pushed {sent:.2f} MB, pulled {read:.2f} MB", flush=True)


def main(arguments: Sequence[str] = ()) -> None:
    known = (*bundled_models(), *FAMILIES, "hub", "sizes")
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.travel")
    parser.add_argument("--only", action="append", choices=known)
    parser.add_argument("--format", action="append", choices=FORMATS)
    parser.add_argument("--python", action="append", default=[], metavar="FORMAT=PATH")
    chosen = parser.parse_args(arguments)
    wanted = chosen.only or known
    pythons = dict(each.split("=", 1) for each in chosen.python)
    if models := [name for name in wanted if name not in ("hub", "sizes")]:
        print_formats(models, chosen.format or FORMATS, pythons)
    if "hub" in wanted:
        print_hub()
    if "sizes" in wanted:
        print_sizes()


if __name__ == "__main__":
    main(sys.argv[1:])
