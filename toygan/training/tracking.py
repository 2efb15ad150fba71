"""Passes figures and pictures of a training to a program that shows them (a tracker).

The training still writes `log.jsonl` and `grids/`. It is tracked only if it runs within `tracked_by`. The
trackers are in `toygan.evaluation.trackers`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toygan.data.photos import PhotoSet
from toygan.images import to_uint8
from toygan.training.batches import step_rng
from toygan.training.state import TrainState

SAMPLE: Final = 128  # the number of pictures that are compared with photos
_AT_ONCE: Final = 16


class Tracker(Protocol):
    """Receives the progress of a training. `images_seen` counts the images of all steps so far."""

    def report(self, values: Mapping[str, float], images_seen: int) -> None:
        """Receives the values of losses and logits by name."""

    def show(self, grid: NDArray[np.uint8], file: Path, images_seen: int) -> None:
        """Receives a grid (H, W, 3) of photos and pictures, which is also in `file`."""

    def compare(self, photos: Tensor, generated: Tensor, images_seen: int) -> None:
        """Receives N photos, and N pictures with the photos' conditions, (N, 3, R, R) uint8 each."""

    def finish(self) -> None:
        """Is called when the training has ended."""


# a function of a training's folder and options
StartTracker = Callable[[Path, Mapping[str, object]], Tracker]

_start: ContextVar[StartTracker | None] = ContextVar("start", default=None)


@contextmanager
def tracked_by(start: StartTracker) -> Iterator[None]:
    """Within this context, each training starts a tracker by a call of `start`."""
    token = _start.set(start)
    try:
        yield
    finally:
        _start.reset(token)


@contextmanager
def started_tracker(
    output: Path, options: Mapping[str, object], *, is_main: bool
) -> Iterator[Tracker | None]:
    """Yields the tracker of a training, and finishes it at the end.

    Yields None if this process tracks nothing.
    """
    start = _start.get()
    if start is None or not is_main:
        yield None
        return
    tracker = start(output, options)
    try:
        yield tracker
    finally:
        tracker.finish()


@torch.inference_mode()
def sample(state: TrainState, photos: PhotoSet, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns `SAMPLE` photos, or all if there are fewer, and pictures with the photos' conditions.

    Both are (N, 3, R, R) uint8. Photos and latents are the same at every call.
    """
    rng = step_rng(seed, -1)
    rows = torch.randperm(len(photos), generator=rng)[:SAMPLE]
    latents = torch.randn((len(rows), state.ema.latent_size), generator=rng).to(device)
    generated = []
    for first in range(0, len(rows), _AT_ONCE):
        few = slice(first, first + _AT_ONCE)
        conditions = {name: value.to(device) for name, value in photos.conditions(rows[few]).items()}
        generated.append(torch.from_numpy(to_uint8(state.ema(latents[few], conditions))))
    return photos.images[rows], torch.cat(generated).permute(0, 3, 1, 2)
