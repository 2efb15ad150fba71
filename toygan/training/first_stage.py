"""Makes the training pairs of an enhancer: photos, and for each photo the pictures of the first stages.

These small pictures are kept in `small_pictures.safetensors` in the training's folder, so that a resumed
training need not generate them again.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from toygan.artifact.files import ModelFiles
from toygan.artifact.load import load_model
from toygan.artifact.model import Model
from toygan.data.photo import WantedConditions
from toygan.data.photos import PhotoSet, load_photos
from toygan.errors import BadInput
from toygan.images import to_uint8
from toygan.models.layers import NetworkConfig
from toygan.progress import Progress
from toygan.training.batches import step_rng
from toygan.training.pairs import PhotoPairs, Source

log = logging.getLogger(__name__)

AT_ONCE: Final = 8  # pictures
WITH_DRAWINGS: Final = WantedConditions(kind="layout", lines=True, needs_lines=True)


def load_pairs(
    uri: str | Path,
    networks: NetworkConfig,
    first_stages: Sequence[ModelFiles],
    *,
    keep_sku: Callable[[str], bool],
    seed: int,
    device: torch.device,
    kept: Path,
) -> PhotoPairs:
    """Loads the photos of the split `train` at `uri` with their layouts, lines and small pictures.

    Every first stage generates one picture from each photo's own layout or sketch, in the photo's colours and
    without a colour profile. One seed is enough: truncation keeps latents near the mean, so another seed
    hardly changes the picture. If the file `kept` has the pictures of the same photos and models, they are
    read from it. Otherwise they are generated and written to it.

    Raises BadInput for photos without layouts or lines. Also raises BadInput for a first stage that takes
    neither layouts nor sketches, that has another resolution, or that lacks a category of the photos. Raises
    ModelError for a damaged first stage.
    """
    models = [_first_stage(files, networks, device) for files in first_stages]

    def load(resolution: int, model: Model | None = None) -> PhotoSet:
        load_those = partial(
            load_photos, uri, resolution=resolution, split="train", keep_sku=keep_sku, drawings=WITH_DRAWINGS
        )
        if model is None:
            return load_those()
        return load_those(text_config=model.text_config, categories=model.categories)

    photos = load(networks.resolution)
    shrunk = load(networks.small_resolution)
    sources = [source_of(model) for model in models]
    key = "\x1f".join([photos.sha256, str(seed), *(f"{each.name}@{each.version}" for each in models)])
    small = _read(kept, key)
    if small is None:
        small = shrunk.images[:, None].clone()
        with Progress(
            total=len(sources) * len(photos), unit="pictures", description="generating small pictures"
        ) as progress:
            for number, model in reversed(list(enumerate(models))):
                known = load(networks.small_resolution, model).with_text(model.text_encoder)
                drawn = generate_small(model, known, step_rng(seed, -1 - number), progress)
                small = torch.cat([drawn[:, None], small], dim=1)
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_suffix(".tmp")
        save_file({"small": small.contiguous()}, unfinished, {"key": key})
        unfinished.replace(kept)
    of_photos = {each.name: getattr(photos, each.name) for each in fields(PhotoSet)}
    return PhotoPairs(**of_photos, small=small, sources=(*sources, Source(is_photo=True)))


def _read(kept: Path, key: str) -> Tensor | None:
    """Returns the pictures in the file; None if it does not exist or has another key."""
    try:
        with safe_open(kept, "pt") as file:
            is_same = (file.metadata() or {}).get("key") == key
            return file.get_tensor("small") if is_same else None
    except (OSError, SafetensorError):
        return None


def _first_stage(files: ModelFiles, networks: NetworkConfig, device: torch.device) -> Model:
    model = load_model(files, device)
    name = f"{model.name}@{model.version}"
    if model.learns_from is None:
        raise BadInput(
            f"{name} does not generate from layouts or sketches, so its pictures do not show the same as the "
            "photos; leave it out: without a first stage, an enhancer learns from downscaled photos"
        )
    if model.generated_resolution != networks.small_resolution:
        raise BadInput(
            f"{name} generates pictures of {model.generated_resolution} pixels, but the enhancer enlarges "
            f"pictures of {networks.small_resolution}; set small_resolution in the config's network"
        )
    return model


def source_of(model: Model) -> Source:
    """Says from which of layout and lines the model generates."""
    draws_layouts = model.learns_from == "layout"
    return Source(layout=draws_layouts, lines=model.learns_from_lines or not draws_layouts)


@torch.inference_mode()
def generate_small(model: Model, photos: PhotoSet, rng: torch.Generator, progress: Progress) -> Tensor:
    """Generates one picture for each photo from its own layout or lines, (N, 3, r, r) uint8."""
    source, drawn = source_of(model), []
    for rows in torch.split(torch.arange(len(photos)), AT_ONCE):
        given = photos.conditions(rows)
        shown = {"layout": source.layout, "sketch": source.lines}
        conditions = {name: value.to(model.device) for name, value in given.items() if shown.get(name, True)}
        latents = torch.randn((len(rows), model.generator.latent_size), generator=rng).to(model.device)
        images = model.generator.forward_truncated(latents, conditions, model.truncation)
        drawn.append(torch.from_numpy(to_uint8(images)).permute(0, 3, 1, 2).clone())
        progress.advance(len(rows))
    return torch.cat(drawn)
