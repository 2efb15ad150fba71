"""Measures how the photos of a studio show the colours of the catalog."""

from typing import Final

import torch
from torch import Tensor

from toygan.data.photos import PhotoSet
from toygan.models.steering import NEAR, rgb_to_lab

LEAST_SHARE: Final = 0.25  # the smallest share of a product's pixels that must show its main colour
FEWEST_PRODUCTS: Final = 8  # with fewer products nothing is measured, and the catalog's colours are used


def shown_colours(photos: PhotoSet) -> tuple[Tensor, Tensor] | None:
    """Returns catalog colours and the median colours that photos show for them, (N, 3) CIELAB each.

    Returns None if there are no masks, or if too few products show their main colour.
    """
    if photos.image_condition != "photo" or photos.condition_images is None:
        return None
    given, shown = [], []
    for row in photos.colour[:, 3].nonzero()[:, 0].tolist():
        inside = photos.condition_images[row][..., 3] > 127
        pixels = photos.images[row][:, inside].T.float() / 255
        lab = torch.from_numpy(rgb_to_lab(pixels.numpy()))
        wanted = photos.colour[row, :3] * 50 + torch.tensor([50.0, 0.0, 0.0])
        near = (lab[:, 1:] - wanted[1:]).norm(dim=1) < NEAR
        if len(near) and near.float().mean() >= LEAST_SHARE:
            given.append(wanted)
            shown.append(lab[near].median(dim=0).values)
    return (torch.stack(given), torch.stack(shown)) if len(given) >= FEWEST_PRODUCTS else None
