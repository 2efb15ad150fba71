"""`toygan train`: photos in, a model folder out, with checkpoints, grids and a log on the way."""

import json
import logging
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toygan.conditions.text import TextEncoder
from toygan.data.photos import PhotoSet, load_photos
from toygan.data.split import is_calibration_sku
from toygan.errors import BadInput
from toygan.images import encode, to_uint8
from toygan.models import image_condition, network_config
from toygan.progress import Progress
from toygan.registry import ModelFiles
from toygan.training.checkpoint import checkpoint_folders, load_checkpoint, save_checkpoint, save_model
from toygan.training.config import DEFAULT_MAX_IMAGES, TrainConfig
from toygan.training.fit import Losses, TrainState, fit, start, step_rng
from toygan.training.guard import check_finite
from toygan.training.initial import read_initial

log = logging.getLogger(__name__)

GRID_COLUMNS = 8

_DEFAULTS = {each.name: each.default for each in fields(TrainConfig) if each.default is not MISSING}


def train(
    *,
    photos_uri: str | Path,
    output: Path,
    config: TrainConfig,
    device: torch.device,
    max_images: int | None = None,
    max_minutes: float | None = None,
    resume: bool = False,
    init: ModelFiles | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Trains one model and returns its folder, `output`/model. The final weights are always written.

    It ends after `max_images` (those of earlier processes included), after `max_minutes` of this process, or
    when `should_stop()`, which is asked before every step, whichever comes first; after `DEFAULT_MAX_IMAGES`
    when neither number is given. Photos of `split == "train"` (see `toygan.data.sources`) are used, without
    the products that calibrate the score. With `resume` the newest checkpoint in `output` is taken up, if
    there is one; without it an `output` that holds one is refused, so that hours of work are not lost by
    accident. With `init` the weights of that model are where it starts, see `toygan.training.initial`; to
    resume, give the same one.

    Raises BadInput for unusable photos or options, ModelError for a checkpoint that cannot be resumed and for
    an `init` that does not fit, RunFailed when the weights diverge.
    """
    _check(config, max_images, max_minutes)
    initial = None if init is None else read_initial(init, config)
    earlier = checkpoint_folders(output)
    if earlier and not resume:
        raise BadInput(f"{output} holds a training already; give --resume to go on, or another folder")
    if max_images is None and max_minutes is None:
        max_images = DEFAULT_MAX_IMAGES
    photos = load_photos(
        photos_uri,
        resolution=config.resolution,
        split="train",
        keep_sku=lambda sku: not is_calibration_sku(sku),
        image_condition=image_condition(config.family),
    )
    encoder = None if config.text_encoder is None else TextEncoder(config.text_encoder, device)
    photos = photos.with_text(encoder)
    products, categories = len(set(photos.skus)), len(photos.categories)
    log.info("%d photos of %d products in %d categories", len(photos), products, categories)
    state = start(config, categories=categories, device=device, text_size=photos.text_size)
    if initial is not None:
        initial.hand_over(state.networks, photos.categories, None if encoder is None else encoder.to_json())
        log.info("starting from %s", initial.name)
    folder = _Folder(
        output=output,
        config=config,
        photos=photos,
        encoder=encoder,
        device=device,
        init=None if initial is None else initial.name,
    )
    if earlier:
        folder.load(earlier[-1], state)
        log.info("resumed after %d images", state.images_seen)
    folder.cut_log(state.images_seen)
    with Progress(
        total=max_images, unit="images", description="training", done=state.images_seen
    ) as progress:
        fit(
            state,
            photos,
            config,
            device=device,
            should_stop=lambda: should_stop() or _is_over(state, progress, max_images, max_minutes),
            on_step=lambda: progress.advance(config.batch_size),
            on_report=lambda losses: folder.report(state, losses, progress),
            on_checkpoint=lambda: folder.save(state),
        )
    folder.save(state)
    return folder.model


def _is_over(
    state: TrainState, progress: Progress, max_images: int | None, max_minutes: float | None
) -> bool:
    if max_images is not None and state.images_seen >= max_images:
        return True
    return max_minutes is not None and progress.elapsed_s >= max_minutes * 60


def _check(config: TrainConfig, max_images: int | None, max_minutes: float | None) -> None:
    """Raises BadInput before the photos are read."""
    try:
        network_config(config.family, config.network_options(categories=1))
    except ValueError as error:
        raise BadInput(str(error)) from error
    for name, value in (("max_images", max_images), ("max_minutes", max_minutes)):
        if value is not None and not value >= 0:
            raise BadInput(f"{name} is {value}; it must not be below 0")


@dataclass(frozen=True, kw_only=True)
class _Folder:
    """What one training leaves in `output`, and finds there."""

    output: Path
    config: TrainConfig
    photos: PhotoSet
    encoder: TextEncoder | None
    device: torch.device
    init: str | None  # NAME@VERSION of the model that it started from

    @property
    def model(self) -> Path:
        return self.output / "model"

    @property
    def _identity(self) -> dict[str, object]:
        """What a resumed training has to have in common with the checkpoint."""
        started_from = {} if self.init is None else {"init": self.init}
        return self.config.to_json() | {"categories": list(self.photos.categories)} | started_from

    def load(self, checkpoint: Path, state: TrainState) -> None:
        state.images_seen = load_checkpoint(
            checkpoint,
            config=self._identity,
            defaults=_DEFAULTS,
            photos_sha256=self.photos.sha256,
            modules=state.modules,
            optimizers=state.optimizers,
        )

    def save(self, state: TrainState) -> None:
        """Grid, model, checkpoint: the checkpoint says that the two others are there too."""
        check_finite(state.modules)
        grid = self.output / "grids" / f"{state.images_seen:010d}.png"
        _replace(grid, encode(preview_grid(state, self.photos, self.config.seed, self.device), "png"))
        save_model(
            self.model,
            generator=state.ema,
            discriminator=state.discriminator,
            config=model_config(self.config, self.photos, state.images_seen, self.encoder, self.init),
        )
        save_checkpoint(
            self.output,
            images_seen=state.images_seen,
            config=self._identity,
            photos_sha256=self.photos.sha256,
            modules=state.modules,
            optimizers=state.optimizers,
        )

    @property
    def _log(self) -> Path:
        return self.output / "log.jsonl"

    def report(self, state: TrainState, losses: Losses, progress: Progress) -> None:
        """One line for the log, a short one for the progress."""
        check_finite(state.modules)
        progress.note(f"loss G {losses.generator:+.3f} D {losses.discriminator:.3f}")
        line = {
            "images_seen": state.images_seen,
            "elapsed_s": round(progress.elapsed_s, 1),
            "images_per_s": round(progress.per_s, 1),
            **{name: round(value, 4) for name, value in asdict(losses).items()},
        }
        self.output.mkdir(parents=True, exist_ok=True)
        with self._log.open("a") as lines:
            lines.write(json.dumps(line) + "\n")

    def cut_log(self, images_seen: int) -> None:
        """Drops the lines of steps that are about to be made again, and a torn last one."""
        if not self._log.exists():
            return
        kept = []
        for line in self._log.read_text().splitlines(keepends=True):
            try:
                if not line.endswith("\n") or json.loads(line)["images_seen"] > images_seen:
                    break
            except (ValueError, KeyError, TypeError):
                break
            kept.append(line)
        _replace(self._log, "".join(kept).encode())


def _replace(file: Path, data: bytes) -> None:
    """Writes `file` in one step: a reader finds all of the old or all of the new."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.tmp")
    unfinished.write_bytes(data)
    unfinished.replace(file)


def model_config(
    config: TrainConfig,
    photos: PhotoSet,
    images_seen: int,
    encoder: TextEncoder | None,
    init: str | None = None,
) -> dict[str, object]:
    """What a model needs besides its weights.

    `network` is what `toygan.models.build` takes, every option spelled out: a default may change, a model
    may not.
    """
    options = config.network_options(categories=len(photos.categories), text_size=photos.text_size)
    network = network_config(config.family, options)
    return {
        "family": config.family,
        "resolution": config.resolution,
        "categories": list(photos.categories),
        "network": asdict(network),
        **({} if encoder is None else {"text_encoder": encoder.to_json()}),
        "training": {"images_seen": images_seen, "photos": len(photos), "init": init, **config.to_json()},
    }


@torch.inference_mode()
def preview_grid(state: TrainState, photos: PhotoSet, seed: int, device: torch.device) -> NDArray[np.uint8]:
    """Two rows a category: eight photos, and below each what is drawn in its place; (H, W, 3) uint8.

    Photos and latents are the same at every call.
    """
    rng = step_rng(seed, -1)
    rows = torch.cat([_pick(photos.of_category(index), rng) for index in range(len(photos.categories))])
    latents = torch.randn((len(rows), state.ema.latent_size), generator=rng).to(device)
    images = []
    for few in torch.arange(len(rows)).view(-1, GRID_COLUMNS):
        conditions = {name: value.to(device) for name, value in photos.conditions(rows[few]).items()}
        images.append(to_uint8(state.ema(latents[few], conditions)))
    generated = np.concatenate(images)
    real = photos.images[rows].permute(0, 2, 3, 1).numpy()
    side = real.shape[1]
    tiles = np.stack([each.reshape(-1, GRID_COLUMNS, side, side, 3) for each in (real, generated)], axis=1)
    return tiles.transpose(0, 1, 3, 2, 4, 5).reshape(-1, GRID_COLUMNS * side, 3)


def _pick(rows: list[int], rng: torch.Generator) -> Tensor:
    """`GRID_COLUMNS` of the rows, again from the first one on where they are fewer."""
    order = torch.tensor(rows)[torch.randperm(len(rows), generator=rng)]
    return order.repeat(-(-GRID_COLUMNS // len(rows)))[:GRID_COLUMNS]
