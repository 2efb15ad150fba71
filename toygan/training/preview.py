"""Makes a grid of photos and generated pictures. Photos and latents are the same over the whole training."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toygan.data.photos import PhotoSet
from toygan.images import to_uint8
from toygan.training.batches import step_rng
from toygan.training.pairs import PhotoPairs
from toygan.training.state import TrainState

GRID_COLUMNS = 8


@torch.inference_mode()
def preview_grid(state: TrainState, photos: PhotoSet, seed: int, device: torch.device) -> NDArray[np.uint8]:
    """Returns a grid (H, W, 3) uint8 with two rows for each category: eight photos, and pictures below them.

    Photos and latents are the same at every call. The grid of an enhancer has three rows: small pictures,
    enlarged pictures, photos. It has one column for each of the first `GRID_COLUMNS` categories.
    """
    rng = step_rng(seed, -1)
    if isinstance(photos, PhotoPairs):
        return _pairs_grid(state, photos, rng, device)
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


def _pairs_grid(
    state: TrainState, photos: PhotoPairs, rng: torch.Generator, device: torch.device
) -> NDArray[np.uint8]:
    categories = [index for index in range(len(photos.categories)) if photos.of_category(index)]
    rows = torch.cat([_pick(photos.of_category(index), rng)[:1] for index in categories[:GRID_COLUMNS]])
    given = photos.conditions(rows)
    nothing = torch.zeros(1, 0, device=device)
    enhanced = [
        to_uint8(state.ema(nothing, {name: value[[number]].to(device) for name, value in given.items()}))
        for number in range(len(rows))
    ]
    real = photos.images[rows].permute(0, 2, 3, 1).numpy()
    scale = real.shape[1] // given["small"].shape[-1]
    small = to_uint8(given["small"]).repeat(scale, axis=1).repeat(scale, axis=2)
    shown = [np.concatenate(list(each), axis=1) for each in (small, np.concatenate(enhanced), real)]
    return np.concatenate(shown)


def _pick(rows: list[int], rng: torch.Generator) -> Tensor:
    """Returns `GRID_COLUMNS` random rows. If there are fewer rows, some are repeated."""
    order = torch.tensor(rows)[torch.randperm(len(rows), generator=rng)]
    return order.repeat(-(-GRID_COLUMNS // len(rows)))[:GRID_COLUMNS]
