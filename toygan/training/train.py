"""`toygan train`: photos in, a model folder out, with checkpoints, grids and a log on the way."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from toygan.conditions.colour import encode_colours
from toygan.data.photos import PhotoSet, load_photos
from toygan.data.split import is_calibration_sku
from toygan.errors import BadInput
from toygan.images import encode, to_uint8
from toygan.training.checkpoint import checkpoint_folders, load_checkpoint, save_checkpoint, save_model
from toygan.training.config import TrainConfig
from toygan.training.fit import Losses, TrainState, fit, start, step_rng

log = logging.getLogger(__name__)

GRID_COLOURS = ("#B40000", "#1E5AA8", "#FAC80A", "#00852B", "#F4F4F4", "#1B2A34", "#969696", "#58AB41")


def train(
    *,
    photos_folder: Path,
    output: Path,
    config: TrainConfig,
    device: torch.device,
    max_images: int | None = None,
    max_minutes: float | None = None,
    resume: bool = False,
    report: Callable[[str], None] = log.info,
) -> Path:
    """Trains one model and returns its folder, `output`/model. The final weights are always written.

    Photos of `split == "train"` are used, without the products that calibrate the score. With `resume` the newest
    checkpoint in `output` is taken up; without it an `output` that holds one is refused, so that hours of work are
    not overwritten by accident. Raises BadInput for unusable photos or options, ModelError for a bad checkpoint.
    """
    earlier = checkpoint_folders(output)
    if earlier and not resume:
        raise BadInput(f"{output} holds a training already; give --resume to go on, or another folder")
    photos = load_photos(
        photos_folder,
        resolution=config.resolution,
        split="train",
        keep_sku=lambda sku: not is_calibration_sku(sku),
    )
    report(f"{len(photos)} photos of {len(set(photos.skus))} products in {len(photos.categories)} categories")
    state = start(config, categories=len(photos.categories), device=device)
    stored_config = config.to_json() | {"categories": list(photos.categories)}
    if earlier:
        state.images_seen = load_checkpoint(
            earlier[-1], config=stored_config, modules=state.modules, optimizers=state.optimizers
        )
        report(f"resumed after {state.images_seen:,} images")
    started_s = time.monotonic()
    images_at_start = state.images_seen

    def should_stop() -> bool:
        if max_images is not None and state.images_seen >= max_images:
            return True
        return max_minutes is not None and time.monotonic() - started_s >= max_minutes * 60

    def on_report(state: TrainState, losses: Losses) -> None:
        elapsed_s = time.monotonic() - started_s
        rate = (state.images_seen - images_at_start) / elapsed_s
        line = {
            "images_seen": state.images_seen,
            "elapsed_s": round(elapsed_s, 1),
            "images_per_s": round(rate, 1),
            **{name: round(value, 4) for name, value in vars(losses).items()},
        }
        with (output / "log.jsonl").open("a") as lines:
            lines.write(json.dumps(line) + "\n")
        report(
            f"{state.images_seen:>10,} images  {rate:6.1f} images/s  loss G {losses.generator:+.3f} "
            f"D {losses.discriminator:.3f}  logits real {losses.real_logit:+.2f} generated {losses.generated_logit:+.2f}"
        )

    def on_checkpoint(state: TrainState) -> None:
        save_checkpoint(
            output,
            images_seen=state.images_seen,
            config=stored_config,
            modules=state.modules,
            optimizers=state.optimizers,
        )
        save_model(
            output / "model",
            generator=state.ema,
            discriminator=state.discriminator,
            config=model_config(config, photos, state.images_seen),
        )
        grid = output / "grids" / f"{state.images_seen:010d}.png"
        grid.parent.mkdir(exist_ok=True)
        grid.write_bytes(encode(preview_grid(state, photos, config.seed, device), "png"))

    output.mkdir(parents=True, exist_ok=True)
    fit(
        state,
        photos,
        config,
        device=device,
        should_stop=should_stop,
        on_report=on_report,
        on_checkpoint=on_checkpoint,
    )
    on_checkpoint(state)
    return output / "model"


def model_config(config: TrainConfig, photos: PhotoSet, images_seen: int) -> dict[str, object]:
    """What a model needs besides its weights; `network` is what `toygan.models.build` takes."""
    network = {"resolution": config.resolution, **config.network, "categories": len(photos.categories)}
    return {
        "family": config.family,
        "resolution": config.resolution,
        "categories": list(photos.categories),
        "network": network,
        "training": {"images_seen": images_seen, "photos": len(photos), **config.to_json()},
    }


@torch.inference_mode()
def preview_grid(state: TrainState, photos: PhotoSet, seed: int, device: torch.device) -> NDArray[np.uint8]:
    """A row a category, a column a colour, the same latents at every call: (H, W, 3) uint8."""
    columns = len(GRID_COLOURS)
    rows = len(photos.categories)
    latents = torch.randn(
        (rows * columns, state.ema.latent_size),  # type: ignore[call-overload]
        generator=step_rng(seed, -1),
    )
    conditions = {
        "category": torch.arange(rows).repeat_interleave(columns),
        "colour": encode_colours(GRID_COLOURS).repeat(rows, 1),
    }
    images = state.ema(latents.to(device), {name: value.to(device) for name, value in conditions.items()})
    side = images.shape[2]
    tiles = to_uint8(images).reshape(rows, columns, side, side, 3)
    return tiles.transpose(0, 2, 1, 3, 4).reshape(rows * side, columns * side, 3)
