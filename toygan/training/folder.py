"""The folder of one training. `toygan.training.checkpoint` describes the files in it."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from toygan.artifact.config import ModelConfig
from toygan.artifact.layout_bank import LayoutBank
from toygan.artifact.layout_predictor import LayoutPredictor
from toygan.artifact.save import save_model
from toygan.conditions.text import TextEncoder
from toygan.conditions.text_bank import TextBank
from toygan.data.photos import PhotoSet
from toygan.disk import disk_errors, replace_file
from toygan.errors import RunFailed
from toygan.images import encode, from_uint8
from toygan.progress import Progress
from toygan.training.batches import step_rng
from toygan.training.checkpoint import checkpoint_folders, load_checkpoint, replace_extras, save_checkpoint
from toygan.training.config import TrainConfig
from toygan.training.fit import Losses
from toygan.training.guard import LR_FACTOR, MAX_ROLLBACKS, diversity, non_finite
from toygan.training.pairs import PhotoPairs
from toygan.training.preview import preview_grid
from toygan.training.state import TrainState
from toygan.training.tracking import Tracker, sample

log = logging.getLogger(__name__)

DIVERSITY_PICTURES = 32
# The largest number of pixels of all pictures whose diversity is measured. So fewer pictures are used if they
# are large.
DIVERSITY_PIXELS = 2**21


class Collapse(Exception):
    """The training must go back to its last checkpoint. The message says why."""


@dataclass(frozen=True, kw_only=True)
class TrainingFolder:
    """Reads and writes the files of one training in `output`."""

    output: Path
    config: TrainConfig
    photos: PhotoSet
    encoder: TextEncoder | None
    known: TextBank | None
    layout_bank: LayoutBank | None
    layout_predictor: LayoutPredictor | None  # the layout predictor of the initial model
    device: torch.device
    init: str | None  # NAME@VERSION of the initial model
    first_stages: tuple[str, ...] = ()  # NAME@VERSION of each first stage of an enhancer
    tracker: Tracker | None = None

    @property
    def model(self) -> Path:
        return self.output / "model"

    @property
    def options(self) -> dict[str, Any]:
        """The options of the training by dotted names such as `data.seed`."""
        return _flat(self.config.to_json())

    @property
    def _identity(self) -> dict[str, object]:
        """Returns the values that must be the same in a checkpoint and in a training that resumes from it."""
        started_from: dict[str, object] = {} if self.init is None else {"init": self.init}
        if self.first_stages:
            started_from["first_stages"] = list(self.first_stages)
        return self.options | {"categories": list(self.photos.categories)} | started_from

    def load(self, checkpoint: Path, state: TrainState) -> None:
        state.images_seen, extras = load_checkpoint(
            checkpoint,
            config=self._identity,
            photos_sha256=self.photos.sha256,
            modules=state.modules,
            optimizers=state.optimizers,
        )
        state.load_extras(extras)

    def roll_back(self, state: TrainState, begin: Callable[[], TrainState], reason: str) -> TrainState:
        """Returns the state of the newest checkpoint with lower learning rates, and logs the rollback.

        Without a checkpoint it returns a new state. Raises RunFailed after `MAX_ROLLBACKS` rollbacks.
        """
        if state.guard.is_spent:
            raise RunFailed(
                f"the training failed after {state.images_seen:,} images: {reason}. It had already gone back "
                f"{MAX_ROLLBACKS} times and continued at lower learning rates. Train again with a lower "
                "generator_lr and discriminator_lr, or with another loss. The newest checkpoint is "
                "from before the failure"
            )
        rollbacks, failed_at = state.guard.rollbacks + 1, state.images_seen
        state = begin()
        earlier = checkpoint_folders(self.output)
        if earlier:
            self.load(earlier[-1], state)
        state.guard = state.guard.after_rollback(rollbacks)
        if earlier and state.distributed.is_main:
            # The lower learning rates are stored at once, so that they are used even if this process dies
            # now.
            with disk_errors(self.output, self._kept()):
                replace_extras(earlier[-1], state.extras)
        state.distributed.wait()
        log.warning(
            "the training failed after %d images: %s. It goes back to %d images and continues at %g times "
            "the learning rates of its settings",
            *(failed_at, reason, state.images_seen, LR_FACTOR**rollbacks),
        )
        self.cut_log(state)
        self._write_line(
            state, {"images_seen": state.images_seen, "rolled_back": reason, "failed_at": failed_at}
        )
        return state

    def save(self, state: TrainState) -> None:
        """Writes grid, model and checkpoint.

        If a collapse is suspected, it writes nothing, and the older files stay.
        """
        self._check_finite(state)
        if state.guard.is_calm:
            self._save(state)

    def save_last(self, state: TrainState) -> None:
        """Writes the final weights, even if a collapse is suspected."""
        self._check_finite(state)
        self._save(state)

    def _check_finite(self, state: TrainState) -> None:
        name = non_finite(state.modules)
        # Without a GPU, each process has its own averages of batch normalisation.
        if state.distributed.any(name is not None):
            raise Collapse(f"{name or 'a weight of another process'} is no longer finite")

    def _save(self, state: TrainState) -> None:
        """Writes the checkpoint last, so that a checkpoint never exists without its grid and model."""
        if state.distributed.is_main:
            with disk_errors(self.output, self._kept()):
                self._save_files(state)
        state.distributed.wait()

    def _kept(self) -> str:
        """Returns the end of the message for a full disk: which checkpoint is kept, and how to continue."""
        earlier = checkpoint_folders(self.output)
        if not earlier:
            return "there is no checkpoint yet. Make room and run the same command again"
        return (
            f"the checkpoint and the model after {int(earlier[-1].name):,} images are kept. Make room and "
            "continue with the same command and --resume"
        )

    def _save_files(self, state: TrainState) -> None:
        grid = self.output / "grids" / f"{state.images_seen:010d}.png"
        grid.parent.mkdir(parents=True, exist_ok=True)
        shown = preview_grid(state, self.photos, self.config.data.seed, self.device)
        replace_file(grid, encode(shown, "png"))
        if self.tracker is not None:
            self.tracker.show(shown, grid, state.images_seen)
            if not isinstance(self.photos, PhotoPairs):
                pictures = sample(state, self.photos, self.config.data.seed, self.device)
                self.tracker.compare(*pictures, state.images_seen)
        save_model(
            self.model,
            generator=state.ema,
            discriminator=state.discriminator,
            config=self._model_config(state.images_seen).to_json(),
            known=self.known,
            layout_bank=self.layout_bank,
            layout_predictor=self._layout_predictor_of(state),
            mask_network=state.mask_network,
        )
        save_checkpoint(
            self.output,
            images_seen=state.images_seen,
            config=self._identity,
            photos_sha256=self.photos.sha256,
            modules=state.modules,
            optimizers=state.optimizers,
            extras=state.extras,
        )

    def _model_config(self, images_seen: int) -> ModelConfig:
        config, photos = self.config, self.photos
        return ModelConfig(
            family=config.family,
            networks=config.networks(categories=len(photos.categories), text_size=photos.text_size),
            categories=photos.categories,
            text=replace(photos.text_config, descriptions=photos.hold_descriptions),
            text_encoder=None if self.encoder is None else self.encoder.to_json(),
            text_smoothing=None if self.known is None else self.known.temperature,
            layout_bank=config.conditions.layout_bank or None,
            first_stages=self.first_stages,
            training={
                "images_seen": images_seen,
                "photos": len(photos),
                "init": self.init,
                "settings": config.to_json(),
            },
        )

    def _layout_predictor_of(self, state: TrainState) -> LayoutPredictor | None:
        if state.layout_predictor is not None:
            return LayoutPredictor(segmenter=state.layout_predictor)
        return self.layout_predictor if self.config.conditions.layout_bank else None

    @property
    def _log(self) -> Path:
        return self.output / "log.jsonl"

    def report(self, state: TrainState, losses: Losses, progress: Progress) -> None:
        """Checks the training with the guard, then writes a line of the log and a short progress note.

        Raises Collapse if the guard detects a collapse.
        """
        self._check_finite(state)
        state.guard = state.guard.watch(
            discriminator_loss=losses.discriminator,
            diversity=state.distributed.mean_number(self._diversity(state)),
        )
        if state.guard.collapse is not None:
            raise Collapse(state.guard.collapse)
        progress.note(f"loss G {losses.generator:+.3f} D {losses.discriminator:.3f}")
        line: dict[str, float] = {
            "images_seen": state.images_seen,
            "elapsed_s": round(progress.elapsed_s, 1),
            "images_per_s": round(progress.per_s, 1),
            "cpu_s": round(time.process_time(), 1),  # CPU time of this process since its start, in seconds
            **{name: round(value, 4) for name, value in asdict(losses).items()},
        }
        if state.augmentation is not None:
            line["augmentation_probability"] = round(state.augmentation.probability, 4)
        self._write_line(state, line)
        if self.tracker is not None:
            self.tracker.report(line, state.images_seen)

    def _write_line(self, state: TrainState, line: Mapping[str, object]) -> None:
        if not state.distributed.is_main:
            return
        with disk_errors(self.output, self._kept()):
            self.output.mkdir(parents=True, exist_ok=True)
            with self._log.open("a") as lines:
                lines.write(json.dumps(line) + "\n")

    @torch.no_grad()
    def _diversity(self, state: TrainState) -> float:
        """Returns the diversity of the pictures of a fixed batch, divided by that of its photos."""
        rng = step_rng(self.config.data.seed, -1)
        count = min(DIVERSITY_PICTURES, max(2, DIVERSITY_PIXELS // self.config.resolution**2))
        rows = torch.randperm(len(self.photos), generator=rng)[:count]
        if len(rows) < 2:
            return 1.0
        latents = torch.randn((len(rows), state.generator.latent_size), generator=rng).to(self.device)
        conditions = {name: value.to(self.device) for name, value in self.photos.conditions(rows).items()}
        state.generator.eval()
        generated = diversity(state.generator(latents, conditions))
        state.generator.train()
        return generated / max(diversity(from_uint8(self.photos.images[rows])), 1e-6)

    def cut_log(self, state: TrainState) -> None:
        """Removes an incomplete last line of the log, and the lines of steps after `state`, because these
        steps will be made again.
        """
        if not (state.distributed.is_main and self._log.exists()):
            return
        images_seen = state.images_seen
        kept = []
        for line in self._log.read_text().splitlines(keepends=True):
            try:
                if not line.endswith("\n") or json.loads(line)["images_seen"] > images_seen:
                    break
            except (ValueError, KeyError, TypeError):
                break
            kept.append(line)
        with disk_errors(self.output, self._kept()):
            replace_file(self._log, "".join(kept).encode())


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of all groups by dotted names such as `data.seed`, as messages name them."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        is_group = isinstance(value, dict) and name != "network"
        flat |= {f"{name}.{option}": each for option, each in value.items()} if is_group else {name: value}
    return flat
