"""Reads condition images (sketches, layouts and snapshots) as arrays, and encodes them as tensors."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from toygan.conditions.condition_types import BACKGROUND, ImageCondition
from toygan.images import MAX_PIXELS, decode, decode_labels, decode_photo, from_uint8

PAPER: Final = 255
FRAMED_CHANNELS: Final = 4  # red, green, blue, and the mask of the product
# With a longer side, the square around a picture would have more than MAX_PIXELS pixels.
_LONGEST_SIDE: Final = math.isqrt(MAX_PIXELS)


class Drawing(NamedTuple):
    """A layout and its lines (a sketch of its edges)."""

    layout: NDArray[np.uint8]  # (R, R)
    lines: NDArray[np.uint8]  # (R, R), as returned by `read_sketch`


def read_sketch(data: bytes, resolution: int) -> NDArray[np.uint8]:
    """Reads a line drawing, dark on white, centres it on a white square and resizes it: (R, R) uint8.

    Raises BadInput as `toygan.images.decode` does.
    """
    grey = torch.from_numpy(decode(data)).float().mean(dim=2, keepdim=True).round().byte().permute(2, 0, 1)
    array: NDArray[np.uint8] = fit_square(grey, resolution, PAPER)[0].numpy()
    return array


def read_layout(data: bytes, resolution: int) -> NDArray[np.uint8]:
    """Reads a label map, centres it on a square of background and resizes it: (R, R) uint8.

    When resizing, each pixel takes the label of the nearest pixel.
    Raises BadInput as `toygan.images.decode_labels` does.
    """
    labels = torch.from_numpy(decode_labels(data))[None]
    array: NDArray[np.uint8] = fit_square(labels, resolution, BACKGROUND, by_labels=True)[0].numpy()
    return array


def read_snapshot(data: bytes, resolution: int) -> NDArray[np.uint8]:
    """Reads a shop's snapshot in its own resolution, (H, W, 3) uint8, upright.

    `resolution` has no effect, because the model itself finds and frames the product.
    Raises BadInput as `toygan.images.decode_photo` does.
    """
    return decode_photo(data)


READERS: Mapping[ImageCondition, Callable[[bytes, int], NDArray[np.uint8]]] = MappingProxyType(
    {"sketch": read_sketch, "layout": read_layout, "photo": read_snapshot}
)


def encode_images(kind: ImageCondition, images: Sequence[NDArray[np.uint8]] | Tensor) -> Tensor:
    """Encodes (B, R, R) uint8 images for the networks, see `toygan.models.layers.Conditions`.

    Images of the type `photo` are framed snapshots with their masks, (B, R, R, 4) uint8.
    """
    stacked = images if isinstance(images, Tensor) else torch.from_numpy(np.stack(images))
    if kind == "photo":
        return from_uint8(stacked.permute(0, 3, 1, 2))
    return stacked.long() if kind == "layout" else from_uint8(stacked[:, None])


def fit_square(pixels: Tensor, resolution: int, fill: int, *, by_labels: bool = False) -> Tensor:
    """Resizes (C, H, W) uint8 and centres it on a square (C, R, R) of the value `fill`.

    The aspect ratio does not change. With `by_labels` each pixel takes the value of the nearest pixel.
    """
    if max(pixels.shape[1:]) > _LONGEST_SIDE:
        pixels = _resized(pixels, _LONGEST_SIDE, by_labels=by_labels)
    height, width = pixels.shape[1:]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    padding = (left, side - width - left, top, side - height - top)
    on_square = F.pad(pixels, padding, value=fill) if any(padding) else pixels
    return _resized(on_square, resolution, by_labels=by_labels)


def _resized(pixels: Tensor, longest: int, *, by_labels: bool) -> Tensor:
    """Resizes so that the longer side has `longest` pixels.

    Uses antialiasing, or with `by_labels` the nearest pixel.
    """
    side = max(pixels.shape[1:])
    size = [max(1, round(length * longest / side)) for length in pixels.shape[1:]]
    if size == list(pixels.shape[1:]):
        return pixels
    # The same bits as torchvision's resize, without its import of up to 2.5 CPU seconds.
    if by_labels:
        return F.interpolate(pixels[None], size=size, mode="nearest-exact")[0]
    return F.interpolate(pixels[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]
