"""The files of a training: its state, to resume it, and the model.

    OUTPUT/checkpoints/<images>/   state.safetensors, state.json   everything that `fit` changes
    OUTPUT/model/                  generator.safetensors, discriminator.safetensors, config.json;
                                   for some models text_bank.safetensors, or layout_bank.parquet and
                                   layout_predictor.safetensors
    OUTPUT/grids/<images>.png      generated pictures, with the same latents over time
    OUTPUT/log.jsonl               one line every `log_every_images`

The checkpoint is written last, in one step. So a process that dies at any moment leaves a folder that can be
resumed; the steps after the newest checkpoint are made again. No file is a pickle.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from toygan.conditions.text_bank import TextBank
from toygan.conditions.text_config import TextConfig
from toygan.data.layout_bank import LayoutBank
from toygan.disk import new_folder, replace_file
from toygan.errors import ModelError
from toygan.models import network_config
from toygan.models.spade import SpadeConfig
from toygan.registry import LAYOUT_BANK, LAYOUT_PREDICTOR, TEXT_BANK
from toygan.training.layout_predictor import LayoutPredictor
from toygan.training.weights import load_weights

KEPT_CHECKPOINTS = 2

_OS_ERROR = re.compile(r"os error (\d+)")  # as Rust writes it


def checkpoint_folders(output: Path) -> list[Path]:
    """Returns the folders of the finished checkpoints, oldest first."""
    folders = [each for each in (output / "checkpoints").glob("*") if each.is_dir() and each.name.isdecimal()]
    return sorted(folders, key=lambda folder: int(folder.name))


def save_checkpoint(
    output: Path,
    *,
    images_seen: int,
    config: Mapping[str, Any],
    photos_sha256: str,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    extras: Mapping[str, Any],
) -> Path:
    """Writes one checkpoint in one step (a rename) and removes all but the newest `KEPT_CHECKPOINTS`.

    `extras` are JSON values that belong to the state. An existing checkpoint stays as it is, because the same
    training makes the same one again.
    """
    folder = output / "checkpoints" / f"{images_seen:010d}"
    if folder.exists():
        return folder
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}/{index}/{key}": torch.as_tensor(value) for key, value in moments.items()}
    for unfinished in folder.parent.glob("*.tmp"):
        shutil.rmtree(unfinished)
    state = {"images_seen": images_seen, "config": dict(config), "photos_sha256": photos_sha256}
    state["extras"] = dict(extras)
    with new_folder(folder) as unfinished:
        _save_tensors(unfinished / "state.safetensors", tensors)
        (unfinished / "state.json").write_text(json.dumps(state, indent=1, sort_keys=True))
    for old in checkpoint_folders(output)[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(old)
    return folder


def load_checkpoint(
    folder: Path,
    *,
    config: Mapping[str, Any],
    defaults: Mapping[str, Any],
    photos_sha256: str,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> tuple[int, dict[str, Any]]:
    """Loads a checkpoint into the modules and optimizers; returns the images seen and the extras.

    `defaults` are the values of options that are newer than the checkpoint. Raises ModelError if the
    checkpoint is damaged or belongs to a training with another config or other photos.
    """
    try:
        state = json.loads((folder / "state.json").read_bytes())
        images_seen, stored = int(state["images_seen"]), {**defaults, **state["config"]}
        extras = dict(state.get("extras", {}))
        file = folder / "state.safetensors"
        with safe_open(file, "pt") as tensors:
            keys = tensors.keys()
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"the checkpoint {folder} cannot be read ({error!r}); remove it to resume from the one before"
        ) from error
    if stored.get("family") != config.get("family"):
        raise ModelError(
            f"the checkpoint {folder} is of the family {stored.get('family')}, but {config.get('family')} "
            "is to be trained; resume with the same, or train into another folder"
        )
    differing = sorted(key for key in stored.keys() | config.keys() if stored.get(key) != config.get(key))
    if differing:
        raise ModelError(
            f"the checkpoint {folder} was made with other values of {', '.join(differing)}; "
            "resume with the same, or train into another folder"
        )
    if state.get("photos_sha256", photos_sha256) != photos_sha256:
        raise ModelError(f"the checkpoint {folder} was made with other photos; train into another folder")
    for name, module in modules.items():
        load_weights(module, _below(name, file, keys))
    for name, optimizer in optimizers.items():
        _load_moments(optimizer, _below(name, file, keys))
    return images_seen, extras


def replace_extras(folder: Path, extras: Mapping[str, Any]) -> None:
    """Replaces the extras of a checkpoint in one step."""
    file = folder / "state.json"
    state = json.loads(file.read_bytes()) | {"extras": dict(extras)}
    replace_file(file, json.dumps(state, indent=1, sort_keys=True).encode())


def _below(name: str, file: Path, keys: Iterable[str]) -> dict[str, Tensor]:
    """Returns the tensors with keys that begin with `name`/; the prefix is removed.

    Each part opens the file again, because safetensors keeps all that it has read in memory until the file is
    closed. So resuming needs no more memory than training.
    """
    prefix = f"{name}/"
    with safe_open(file, "pt") as tensors:
        return {key.removeprefix(prefix): tensors.get_tensor(key) for key in keys if key.startswith(prefix)}


def _load_moments(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Loads tensors named <number of the parameter>/<moment>. Raises ModelError if they do not fit."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, moment = key.partition("/")
        parameter = parameters[int(index)] if index.isdecimal() and int(index) < len(parameters) else None
        if parameter is None or value.shape not in (parameter.shape, torch.Size()):
            raise ModelError(
                f"the checkpoint's optimizer does not fit the model: {key} is {tuple(value.shape)}"
            )
        # Fused Adam ignores strides: with contiguous moments it would silently update channels-last weights
        # with the moments of other weights. The copy also lets the memory of the file go; a reference to one
        # number would keep all of it.
        like = parameter if value.ndim else value
        moments.setdefault(int(index), {})[moment] = torch.empty_like(like, dtype=value.dtype).copy_(value)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})


def save_model(
    folder: Path,
    *,
    generator: nn.Module,
    discriminator: nn.Module,
    config: Mapping[str, Any],
    known: TextBank | None = None,
    layout_bank: LayoutBank | None = None,
    layout_predictor: LayoutPredictor | None = None,
) -> None:
    """Writes a model into a new folder, which then replaces an older one.

    So all files are from the same moment, and no calibration of older weights remains.
    """
    with new_folder(folder) as fresh:
        for name, module in (("generator", generator), ("discriminator", discriminator)):
            _save_tensors(fresh / f"{name}.safetensors", module.state_dict())
        if known is not None:
            (fresh / TEXT_BANK).write_bytes(known.to_file())
        if layout_bank is not None:
            (fresh / LAYOUT_BANK).write_bytes(layout_bank.to_file())
        if layout_predictor is not None:
            (fresh / LAYOUT_PREDICTOR).write_bytes(layout_predictor.to_file())
        (fresh / "config.json").write_text(json.dumps(dict(config), indent=1, sort_keys=True) + "\n")


def load_text_bank(model: str, files: Mapping[str, bytes], config: Mapping[str, Any]) -> TextBank | None:
    """Loads the text bank of a model; None if its config.json names none.

    Raises ModelError, naming the model, if the file is missing or unusable.
    """
    if "text_smoothing" not in config:
        return None
    content = _file_of(model, files, TEXT_BANK)
    with _naming(TEXT_BANK, model):
        return TextBank.from_file(content, config["text_smoothing"])


def load_layout_bank(model: str, files: Mapping[str, bytes], config: Mapping[str, Any]) -> LayoutBank | None:
    """Loads the layout bank of a model; None if its config.json names none.

    Raises ModelError, naming the model, if the file is missing or unusable.
    """
    if "layout_bank" not in config:
        return None
    content = _file_of(model, files, LAYOUT_BANK)
    with _naming(LAYOUT_BANK, model):
        network = layout_network(config)
        known = LayoutBank.from_file(
            content,
            config["layout_bank"],
            resolution=network.resolution,
            text_size=network.text_size,
            classes=network.layout_classes,
        )
        if missing := sorted(set(config["categories"]) - set(known.categories)):
            raise ModelError(f"it has no layout of {', '.join(missing)}; train the model on some")
        return known


def layout_network(config: Mapping[str, Any]) -> SpadeConfig:
    """Returns the networks of a config.json. Raises ValueError if they do not generate from layouts."""
    network = network_config(config["family"], config["network"])
    if not isinstance(network, SpadeConfig):
        raise ValueError(f"the family {config['family']} cannot use a layout bank")
    return network


def load_layout_predictor(
    model: str, files: Mapping[str, bytes], config: Mapping[str, Any]
) -> LayoutPredictor | None:
    """Loads the layout predictor of a model with a layout bank; None for another model.

    Raises ModelError, naming the model, if the file is missing or unusable.
    """
    if "layout_bank" not in config:
        return None
    content = _file_of(model, files, LAYOUT_PREDICTOR)
    with _naming(LAYOUT_PREDICTOR, model):
        return LayoutPredictor.from_file(content, layout_network(config).layout_classes)


def _file_of(model: str, files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise ModelError(
            f"{name} of the model {model} is missing, but config.json asks for it; copy the model's folder "
            "again"
        )
    return files[name]


@contextmanager
def _naming(file: str, model: str) -> Iterator[None]:
    """Turns any error about a model's file into a ModelError that names file and model."""
    try:
        yield
    except (KeyError, TypeError, ValueError, ModelError) as error:
        raise ModelError(f"{file} of the model {model}: {error}") from None


def text_config_of(model: str, config: Mapping[str, Any]) -> TextConfig:
    """Returns how a model reads titles. Raises ModelError, naming it, for an unusable config.json."""
    try:
        return TextConfig.from_config(config)
    except ModelError as error:
        raise ModelError(f"config.json of the model {model}: {error}") from None


def _save_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors in their logical order, because safetensors stores no strides.

    Raises OSError if the file cannot be written. safetensors gives the error's number in its message only.
    """
    try:
        save_file({key: value.contiguous() for key, value in tensors.items()}, file)
    except SafetensorError as error:
        if found := _OS_ERROR.search(str(error)):
            number = int(found[1])
            raise OSError(number, os.strerror(number), str(file)) from error
        raise
