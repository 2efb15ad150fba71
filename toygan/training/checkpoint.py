"""A training on disk: the whole state for resuming, and the model that comes out of it.

    OUTPUT/checkpoints/<images>/   state.safetensors, state.json   everything that `fit` changes
    OUTPUT/model/                  generator.safetensors, discriminator.safetensors, config.json
    OUTPUT/grids/<images>.png      the same latents over time
    OUTPUT/log.jsonl               one line every `log_every_images`

Nothing here is a pickle.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from toygan.errors import ModelError

KEPT_CHECKPOINTS = 2


def checkpoint_folders(output: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted(
        folder for folder in (output / "checkpoints").glob("*") if folder.is_dir() and folder.name.isdigit()
    )


def save_checkpoint(
    output: Path,
    *,
    images_seen: int,
    config: Mapping[str, Any],
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> Path:
    """Writes one checkpoint in one step (a rename) and removes all but the newest `KEPT_CHECKPOINTS`."""
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}/{index}/{key}": torch.as_tensor(value) for key, value in moments.items()}
    folder = output / "checkpoints" / f"{images_seen:010d}"
    unfinished = folder.with_suffix(".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    save_file({key: value.contiguous() for key, value in tensors.items()}, unfinished / "state.safetensors")
    state = {"images_seen": images_seen, "config": dict(config)}
    (unfinished / "state.json").write_text(json.dumps(state, indent=1, sort_keys=True))
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    for old in checkpoint_folders(output)[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(old)
    return folder


def load_checkpoint(
    folder: Path,
    *,
    config: Mapping[str, Any],
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> int:
    """Puts a checkpoint back into the given modules and optimizers; returns the images seen.

    Raises ModelError when the checkpoint is damaged or belongs to a training with another config.
    """
    try:
        state = json.loads((folder / "state.json").read_text())
        tensors = load_file(folder / "state.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"the checkpoint {folder} cannot be read ({error}); remove it and resume again") from error
    differing = sorted(
        key for key in state["config"].keys() | config.keys() if state["config"].get(key) != config.get(key)
    )
    if differing:
        raise ModelError(f"the checkpoint {folder} was made with other values of {', '.join(differing)}")
    for name, module in modules.items():
        load_weights(module, {k.split("/", 1)[1]: v for k, v in tensors.items() if k.startswith(f"{name}/")})
    for name, optimizer in optimizers.items():
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(f"{name}/"):
                _, index, moment = key.split("/")
                moments.setdefault(int(index), {})[moment] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return int(state["images_seen"])


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Strict `load_state_dict` that answers with a ModelError naming the first tensors that do not fit."""
    wanted = module.state_dict()
    misfits = [
        f"{key}: found {tuple(tensors[key].shape) if key in tensors else 'nothing'}, "
        f"wanted {tuple(wanted[key].shape) if key in wanted else 'nothing'}"
        for key in sorted(wanted.keys() | tensors.keys())
        if key not in wanted or key not in tensors or wanted[key].shape != tensors[key].shape
    ]
    if misfits:
        more = f" and {len(misfits) - 3} more" if len(misfits) > 3 else ""
        raise ModelError(f"the weights do not fit the model: {'; '.join(misfits[:3])}{more}")
    module.load_state_dict(dict(tensors))


def save_model(
    folder: Path, *, generator: nn.Module, discriminator: nn.Module, config: Mapping[str, Any]
) -> None:
    """Writes the two networks and `config.json`, each in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, module in (("generator", generator), ("discriminator", discriminator)):
        tensors = {key: value.contiguous() for key, value in module.state_dict().items()}
        save_file(tensors, folder / f"{name}.tmp")
        os.replace(folder / f"{name}.tmp", folder / f"{name}.safetensors")
    text = json.dumps(dict(config), indent=1, sort_keys=True) + "\n"
    (folder / "config.tmp").write_text(text)
    os.replace(folder / "config.tmp", folder / "config.json")
