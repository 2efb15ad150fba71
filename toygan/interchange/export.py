"""Writes a model for other systems: networks, their description, an example script and its inputs."""

import inspect
import json
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from torch.export import ExportedProgram

from toygan.artifact.model import Model
from toygan.conditions.condition_types import BACKGROUND
from toygan.disk import check_new_folder, disk_errors, new_folder
from toygan.interchange.description import CHANNELS_AXIS, REGION_VOTE, STEERING, TEXT_BANK, Format, describe
from toygan.interchange.example_inputs import example_inputs
from toygan.interchange.keras_files import write_keras
from toygan.interchange.networks import Network, networks_of
from toygan.interchange.onnx_files import write_onnx
from toygan.interchange.trace import trace
from toygan.models import regions, steering

DESCRIPTION: Final = "interchange.json"
EXAMPLE_INPUTS: Final = "example_inputs.npz"
_IMPORT: Final = "from toygan.conditions.condition_types import BACKGROUND\n"

_WRITERS: Final[Mapping[Format, Callable[[Network, ExportedProgram, Path], dict[str, Any]]]] = (
    MappingProxyType({"onnx": write_onnx, "keras": write_keras})
)


def export_model(model: Model, format_: Format, folder: Path) -> list[Path]:
    """Makes `folder` and writes all networks of `model` into it, in `format_`. Returns the written files.

    Raises BadInput if the folder has content or a package is missing.
    """
    check_new_folder(folder)
    write = _WRITERS[format_]
    with disk_errors(folder, "nothing is kept"), new_folder(folder) as fresh:
        networks = networks_of(model)
        entries = {each.name: {"does": each.does, **write(each, trace(each), fresh)} for each in networks}
        said = json.dumps(describe(model, format_, entries), indent=1, ensure_ascii=False)
        (fresh / DESCRIPTION).write_text(f"{said}\n", encoding="utf-8")
        axis = CHANNELS_AXIS[format_]
        inputs = {
            name: np.moveaxis(value, 1, axis) if value.ndim == 4 else value
            for name, value in example_inputs(model).items()
        }
        np.savez_compressed(fresh / EXAMPLE_INPUTS, allow_pickle=False, **inputs)
        _copy_example("example.py", fresh / "example.py")
        _copy_example(f"{format_}_run.py", fresh / "run_network.py")
        if "layout" in entries:
            (fresh / REGION_VOTE).write_text(region_vote(), encoding="utf-8")
        if model.text_encoder is not None and model.text_encoder.text_bank is not None:
            np.save(fresh / TEXT_BANK, model.text_encoder.text_bank.embeddings.numpy(), allow_pickle=False)
        if model.image_condition == "photo":
            (fresh / STEERING).write_text(inspect.getsource(steering), encoding="utf-8")
    return sorted(folder.iterdir())


def _copy_example(name: str, to: Path) -> None:
    source = resources.files("toygan") / "interchange" / "examples" / name
    to.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")


def region_vote() -> str:
    """Returns the source of the region vote, which needs numpy and scikit-image only."""
    source = inspect.getsource(regions)
    if _IMPORT not in source:
        raise RuntimeError("the region vote must import only BACKGROUND from toygan")
    return source.replace(_IMPORT, f"BACKGROUND: Final = {BACKGROUND}\n")
