"""Reads the snapshot of a training photo. It shows the same product in the same view, on any ground."""

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from toygan.approval.fidelity import compare
from toygan.conditions.condition_types import BACKGROUND
from toygan.conditions.image import fit_square
from toygan.data.photo import Photo
from toygan.data.registration import moved, product_on_white, register
from toygan.errors import BadInput
from toygan.images import decode_labels, decode_photo
from toygan.models.mask_network import TRUNK_SIDE

if TYPE_CHECKING:
    from toygan.artifact.product_finder import ProductFinder

# Both limits were measured on toy bricks. 40 snapshots, registered with their own photos, overlap by at least
# 0.98; registered with photos of other products of their category, by at most 0.88.
LEAST_OVERLAP: Final = 0.9  # the smallest intersection over union of the masks of snapshot and photo
# In 94 of 101 pairs the structure agrees more, 0.70 in the median. With photos of other products it is 0.17
# at most.
LEAST_STRUCTURE: Final = 0.2  # see `toygan.approval.fidelity`


def read_snapshot_pair(
    photo: Photo, resized: Tensor, *, may_lack: bool, finder: "ProductFinder | None" = None
) -> NDArray[np.uint8]:
    """Returns the snapshot of a photo with the product's mask, (R, R, 4) uint8.

    `resized` is the photo, resized to (3, R, R). A snapshot that does not lie on the photo pixel by pixel is
    registered, see `toygan.data.registration`. The photo's layout shows the product in the photo. Without a
    layout, the white ground does. The `finder` finds the product in a snapshot without a mask.

    With `may_lack`, a photo without a snapshot takes the place of the snapshot, and its layout gives the
    mask. Raises BadInput if the snapshot is missing, if the product cannot be found in it, and for a snapshot
    that shows another product or another view.
    """
    side = resized.shape[-1]
    of_photo = None if photo.layout is None else _shown(photo.layout, side)
    if photo.condition is None:
        if not may_lack:
            raise BadInput("it has no snapshot")
        if of_photo is None:
            raise BadInput("it has neither a snapshot nor a layout; add a column 'snapshot' or 'layout'")
        return _joined(resized, of_photo)
    own = _with_mask(photo, photo.condition, side, finder)
    layers = torch.from_numpy(own).permute(2, 0, 1)
    as_it_is = _joined(fit_square(layers[:3], side, 0), fit_square(layers[3:], side, 0)[0] > 127)
    if of_photo is None:
        return _like_the_photo(own, as_it_is, resized)
    if _overlap(torch.from_numpy(as_it_is[..., 3] > 127), of_photo) >= LEAST_OVERLAP:
        return as_it_is
    found = register(own[..., 3] > 127, of_photo)
    if found is None or found.overlap < LEAST_OVERLAP:
        raise BadInput(
            "its snapshot shows another shape than the photo: scaled and moved, their masks overlap by "
            f"{0.0 if found is None else found.overlap:.2f}, but must overlap by {LEAST_OVERLAP}; take the "
            "snapshot of the same product from the same side"
        )
    return moved(own, found, side)


def read_free_snapshot(photo: Photo) -> NDArray[np.uint8]:
    """Returns the snapshot with the product in any size and place, and its mask, (S, S, 4) uint8.

    S is the side in which a mask network learns. All values are 0 if the photo has no such snapshot. Raises
    BadInput if its mask is missing or does not fit.
    """
    if photo.free_snapshot is None:
        return np.zeros((TRUNK_SIDE, TRUNK_SIDE, 4), dtype=np.uint8)
    if photo.free_mask is None:
        raise BadInput("its free_snapshot has no mask; add the column 'free_mask'")
    layers = torch.from_numpy(_joined_files(photo.free_snapshot, photo.free_mask, "free_mask"))
    layers = layers.permute(2, 0, 1)
    return _joined(fit_square(layers[:3], TRUNK_SIDE, 0), fit_square(layers[3:], TRUNK_SIDE, 0)[0] > 127)


def _like_the_photo(
    own: NDArray[np.uint8], as_it_is: NDArray[np.uint8], resized: Tensor
) -> NDArray[np.uint8]:
    """Returns the snapshot of a photo without a layout.

    The snapshot is registered if it then agrees better with the photo.
    """
    picture = resized.permute(1, 2, 0).numpy()
    structure = compare(picture, as_it_is).structure
    found = register(own[..., 3] > 127, product_on_white(resized))
    if found is not None and found.overlap >= LEAST_OVERLAP:
        registered = moved(own, found, resized.shape[-1])
        return registered if compare(picture, registered).structure > structure else as_it_is
    if structure < LEAST_STRUCTURE:
        raise BadInput(
            "its snapshot does not agree with the photo, not even scaled and moved; take the snapshot of the "
            "same product from the same side, or add the column 'layout' if the product is too pale to stand "
            "out from the white ground"
        )
    return as_it_is


def _with_mask(photo: Photo, snapshot: bytes, side: int, finder: "ProductFinder | None") -> NDArray[np.uint8]:
    """Returns the snapshot with its mask as the last channel, (H, W, 4) uint8."""
    if photo.mask is not None:
        return _joined_files(snapshot, photo.mask, "mask")
    if finder is None:
        raise BadInput(
            "its snapshot has no mask; add the column 'mask', or start from a model that finds products in "
            "snapshots (--init toybricks-studio512)"
        )
    # Twice the size, because the picture is resized once more.
    framed = finder.frame(decode_photo(snapshot), 2 * side)
    if framed.problems:
        raise BadInput(
            f"the product was not found for sure in its snapshot ({', '.join(framed.problems)}); add the "
            "column 'mask', or take another snapshot"
        )
    return framed.pixels


def _joined_files(snapshot: bytes, mask: bytes, column: str) -> NDArray[np.uint8]:
    """Decodes a snapshot and its mask, a file of the column `column`, (H, W, 4) uint8."""
    picture = decode_photo(snapshot)
    shown = Image.fromarray(decode_labels(mask) != BACKGROUND)
    height, width = picture.shape[:2]
    if abs(shown.width / width - shown.height / height) * max(width, height) > 1:
        raise BadInput(
            f"its {column} of {shown.width} x {shown.height} pixels does not fit its snapshot of {width} x "
            f"{height}; give the mask the snapshot's size"
        )
    resized = np.asarray(shown.resize((width, height), Image.Resampling.NEAREST))
    return np.concatenate([picture, 255 * resized[..., None].astype(np.uint8)], axis=2)


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
