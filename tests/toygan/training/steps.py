"""Steps of small trainings, for tests."""

import torch

from toygan.data.photos import PhotoSet
from toygan.training.batches import epoch_rows, sample_batch, step_rng
from toygan.training.config import TrainConfig
from toygan.training.state import TrainState, start
from toygan.training.step import train_step

CPU = torch.device("cpu")


def train(photos: PhotoSet, config: TrainConfig, *, steps: int) -> TrainState:
    state = start(config, categories=2, device=CPU)
    for _ in range(steps):
        rows = epoch_rows(len(photos), config, state.images_seen)
        rng = step_rng(config.data.seed, state.images_seen)
        train_step(state, sample_batch(photos, rows, config, state.generator.latent_size, rng), config, rng)
        state.images_seen += config.data.batch_size
    return state
