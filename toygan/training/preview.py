"""The same photos and latents over time: how a training comes on, at a glance."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toygan.data.photos import PhotoSet
from toygan.images import to_uint8
from toygan.training.batches import step_rng
from toygan.training.state import TrainState

GRID_COLUMNS = 8


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
