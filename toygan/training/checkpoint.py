"""The files of a training: the state, from which it resumes, and the model.

    OUTPUT/checkpoints/<images>/   state.safetensors, state.json   everything that `fit` changes
    OUTPUT/model/                  generator.safetensors, discriminator.safetensors, config.json;
                                   for some models text_bank.safetensors, or layout_bank.parquet and
                                   layout_predictor.safetensors
    OUTPUT/grids/<images>.png      generated pictures, with the same latents over time
    OUTPUT/log.jsonl               one line every `log_every_images`

The checkpoint is written last, in one step. So a training can be resumed from its folder even if the process
died at any moment. The steps after the newest checkpoint are made again. No file is a pickle.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from toygan.artifact.weights import load_weights, save_tensors
from toygan.disk import new_folder, replace_file
from toygan.errors import ModelError

KEPT_CHECKPOINTS = 2


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

    `extras` are JSON values that belong to the state. If the checkpoint exists already, it stays as it is,
    because the training would write the same again.
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
        save_tensors(unfinished / "state.safetensors", tensors)
        (unfinished / "state.json").write_text(json.dumps(state, indent=1, sort_keys=True))
    for old in checkpoint_folders(output)[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(old)
    return folder


def load_checkpoint(
    folder: Path,
    *,
    config: Mapping[str, Any],
    photos_sha256: str,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> tuple[int, dict[str, Any]]:
    """Loads a checkpoint into the modules and optimizers; returns the images seen and the extras.

    Raises ModelError if the checkpoint is damaged or belongs to a training with another config or other
    photos.
    """
    try:
        state = json.loads((folder / "state.json").read_bytes())
        images_seen, stored = int(state["images_seen"]), dict(state["config"])
        extras = dict(state.get("extras", {}))
        file = folder / "state.safetensors"
        with safe_open(file, "pt") as tensors:
            keys = tensors.keys()
    except (OSError, KeyError, TypeError, ValueError, RecursionError, SafetensorError) as error:
        raise ModelError(
            f"the checkpoint {folder} cannot be read ({error!r}); "
            "remove it to resume from the checkpoint before it"
        ) from error
    if stored.get("family") != config.get("family"):
        raise ModelError(
            f"the checkpoint {folder} is of the family {stored.get('family')}, but {config.get('family')} "
            "is to be trained; resume with the same family, or train into another folder"
        )
    differing = sorted(key for key in stored.keys() | config.keys() if stored.get(key) != config.get(key))
    if differing:
        raise ModelError(
            f"the checkpoint {folder} was made with other values of {', '.join(differing)}; "
            "resume with the same values, or train into another folder"
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
    """Returns the tensors whose keys begin with `name`/, under keys without this prefix.

    The file is opened for each call, because safetensors keeps all that it has read in memory until the file
    is closed. So resuming needs no more memory than training.
    """
    prefix = f"{name}/"
    with safe_open(file, "pt") as tensors:
        return {key.removeprefix(prefix): tensors.get_tensor(key) for key in keys if key.startswith(prefix)}


def _load_moments(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Loads tensors with the names <number of the parameter>/<moment>.

    Raises ModelError if a tensor does not fit.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, moment = key.partition("/")
        parameter = parameters[int(index)] if index.isdecimal() and int(index) < len(parameters) else None
        if parameter is None or value.shape not in (parameter.shape, torch.Size()):
            raise ModelError(
                f"the checkpoint's optimizer does not fit the model: {key} has the shape {tuple(value.shape)}"
            )
        # Fused Adam ignores strides. With contiguous moments, it would silently update channels-last weights
        # with the moments of other weights. The copy also allows the memory of the file to be freed:
        # a view of a single number would keep all of it.
        like = parameter if value.ndim else value
        moments.setdefault(int(index), {})[moment] = torch.empty_like(like, dtype=value.dtype).copy_(value)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
