"""Reads the snapshot of a training photo. It shows the same product in the same view, on any ground."""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toygan.conditions.condition_types import BACKGROUND
from toygan.conditions.image import fit_square
from toygan.data.photo import Photo
from toygan.errors import BadInput
from toygan.images import decode_labels, decode_photo

LEAST_OVERLAP: Final = 0.9  # the smallest intersection over union of the masks of snapshot and photo


def read_snapshot_pair(photo: Photo, resized: Tensor, *, may_lack: bool) -> NDArray[np.uint8]:
    """Returns the snapshot of a photo with the product's mask, (R, R, 4) uint8.

    `resized` is the photo, resized to (3, R, R). With `may_lack`, a photo without a snapshot takes the place
    of the snapshot, and its layout gives the mask. Raises BadInput if the snapshot or the mask is missing,
    and for a snapshot that is not aligned with the photo.
    """
    side = resized.shape[-1]
    of_photo = None if photo.layout is None else _shown(photo.layout, side)
    if photo.condition is None:
        if not may_lack:
            raise BadInput("it has no snapshot")
        if of_photo is None:
            raise BadInput("it has neither a snapshot nor a layout; add a column 'snapshot' or 'layout'")
        return _joined(resized, of_photo)
    if photo.mask is None:
        raise BadInput("its snapshot has no mask; add the column 'mask'")
    mask = _shown(photo.mask, side)
    if of_photo is not None and (overlap := _overlap(mask, of_photo)) < LEAST_OVERLAP:
        raise BadInput(
            f"its snapshot is not aligned with the photo: their masks overlap by {overlap:.2f}, but must "
            f"overlap by {LEAST_OVERLAP}; move and scale the snapshot first"
        )
    picture = torch.from_numpy(decode_photo(photo.condition)).permute(2, 0, 1)
    return _joined(fit_square(picture, side, 0), mask)


def _shown(labels: bytes, side: int) -> Tensor:
    """Returns which pixels show the product, (side, side) bool."""
    decoded = torch.from_numpy(decode_labels(labels))[None]
    return fit_square(decoded, side, BACKGROUND, by_labels=True)[0] != BACKGROUND


def _joined(picture: Tensor, mask: Tensor) -> NDArray[np.uint8]:
    layers = torch.cat([picture, 255 * mask[None].byte()])
    return np.ascontiguousarray(layers.permute(1, 2, 0).numpy())


def _overlap(first: Tensor, second: Tensor) -> float:
    either = int((first | second).sum())
    return int((first & second).sum()) / either if either else 0.0
