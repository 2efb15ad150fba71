"""The training loop.

All random numbers of a step come from a random generator that is seeded with (seed, images seen). So a
resumed training needs no random state. It ends with the same weights as an uninterrupted one, bit for bit on
a CPU with the same number of threads.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import count
from typing import TypeVar

import torch

from toygan.conditions.text_bank import TextBank
from toygan.data.photos import PhotoSet
from toygan.training.batches import Batch, epoch_rows, sample_batch, step_rng
from toygan.training.config import TrainConfig
from toygan.training.pairs import PhotoPairs, draw_pairs
from toygan.training.schedule import lr_factor
from toygan.training.state import TrainState
from toygan.training.step import train_step
from toygan.training.studio_batches import draw_snapshots


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Losses and logits, averaged over several steps."""

    generator: float
    discriminator: float
    real_logit: float
    generated_logit: float


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """The functions that `fit` calls during a training."""

    should_stop: Callable[[], bool]  # called before each step; True ends the training
    on_step: Callable[[], None]  # called after each step
    # called every `log_every_images` images, with the means since the last call
    on_report: Callable[[Losses], None]
    on_checkpoint: Callable[[], None]  # every `checkpoint_every_images`


def fit(
    state: TrainState,
    photos: PhotoSet,
    config: TrainConfig,
    callbacks: Callbacks,
    *,
    device: torch.device,
    known: TextBank | None = None,
) -> None:
    """Trains until `callbacks.should_stop()` is true before a step.

    Reports and checkpoints come after the same numbers of images, wherever the training began or was resumed.
    With a text bank `known`, the networks are also trained on texts that the bank blends.
    """
    distributed = state.distributed

    def draw(images_seen: int) -> tuple[Batch, torch.Generator]:
        rng = step_rng(config.data.seed, images_seen)
        rows = epoch_rows(len(photos), config, images_seen)
        if isinstance(photos, PhotoPairs):
            return draw_pairs(photos, rows, config, rng), rng
        if photos.image_condition == "photo":
            return draw_snapshots(photos, rows, config, rng), rng
        probability = None if state.augmentation is None else state.augmentation.probability
        return sample_batch(photos, rows, config, state.generator.latent_size, rng, probability, known), rng

    # Not on a CPU, where no core is free to make batches ahead. Not with adaptive augmentation, where a batch
    # depends on the step before it.
    looks_ahead = device.type == "cuda" and state.augmentation is None
    batches = (_ahead if looks_ahead else map)(draw, count(state.images_seen, config.data.batch_size))
    sums = torch.zeros(len(fields(Losses)), device=device)
    steps = 0
    while not distributed.any(callbacks.should_stop()):
        batch, rng = next(batches)
        if distributed.count > 1:
            batch = batch.share(distributed.index, distributed.count)
            rng = step_rng(config.data.seed, state.images_seen, 1 + distributed.index)
        _set_lrs(state, config)
        sums += train_step(state, batch.to(device), config, rng)
        steps += 1
        before, state.images_seen = state.images_seen, state.images_seen + config.data.batch_size
        callbacks.on_step()
        if _passes(before, state.images_seen, config.logging.log_every_images):
            means = distributed.mean(sums / steps).tolist()
            callbacks.on_report(Losses(**dict(zip(_LOSS_NAMES, means, strict=True))))
            sums.zero_()
            steps = 0
        if _passes(before, state.images_seen, config.logging.checkpoint_every_images):
            callbacks.on_checkpoint()


def _passes(before: int, after: int, every: int) -> bool:
    """Returns whether a multiple of `every` lies in (before, after]."""
    return before // every != after // every


_Generated = TypeVar("_Generated")


def _ahead(draw: Callable[[int], _Generated], numbers: Iterator[int]) -> Iterator[_Generated]:
    """Does the same as `map`, but makes the next batch while the caller uses the present one."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as pool:
        following = pool.submit(draw, next(numbers))
        for number in numbers:
            drawn, following = following.result(), pool.submit(draw, number)
            yield drawn


_LOSS_NAMES = [each.name for each in fields(Losses)]


def _set_lrs(state: TrainState, config: TrainConfig) -> None:
    factor = lr_factor(config, state.images_seen) * state.guard.lr_factor
    rates = {
        "generator_optimizer": config.optimizer.generator_lr,
        "discriminator_optimizer": config.optimizer.discriminator_lr,
    }
    for name, rate in rates.items():
        for group in state.optimizers[name].param_groups:
            group["lr"] = rate * factor
