"""Measures detail that a mere enlargement of a picture cannot have. These are the figures for enhancers."""

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

CROP: Final = 224  # side of the crops in pixels
BORDER: Final = 8  # width of the measured border in pixels
# ITU-R BT.709; its weights are for linear light, but for detail they may be applied to sRGB values
LUMINANCE: Final = (0.2126, 0.7152, 0.0722)
_WHITE: Final = 255


def crops(images: Tensor) -> Tensor:
    """Cuts four squares of `CROP` pixels from each of (N, 3, R, R) uint8: (4 N, 3, CROP, CROP).

    The squares lie around the middle and hardly overlap. Raises ValueError if R is less than `CROP`.
    """
    side = images.shape[-1]
    if side < CROP:
        raise ValueError(f"the pictures have {side} pixels a side; crops need at least {CROP}")
    first = max(0, side // 2 - CROP)
    second = min(side - CROP, first + CROP)
    corners = [(top, left) for top in (first, second) for left in (first, second)]
    return torch.cat([images[:, :, top : top + CROP, left : left + CROP] for top, left in corners])


def fine_energy(images: Tensor, products: Tensor, *, small_resolution: int) -> float:
    """Returns the mean energy of detail in products that is too fine for pictures of `small_resolution`.

    `images` are (N, 3, R, R) uint8. `products` (N, R, R) bool says which pixels show the product. The
    function removes from the luminance all frequencies that are, in both directions, at most half of
    `small_resolution` per side (Nyquist's limit). It averages the square of the rest over the pixels of the
    products. The unit is the square of a brightness step, where white is 255 steps. Raises ValueError if no
    pixel shows a product.
    """
    if not products.any():
        raise ValueError("no pixel shows a product")
    total = 0.0
    for picture, product in _pairs(images, products):
        detail = _above(picture, small_resolution // 2)
        total += float(detail.square()[product].sum())
    return total / int(products.sum())


def effective_resolution(
    generated: Tensor, real: Tensor, products: Tensor, *, small_resolution: int
) -> float:
    """Returns the `fine_energy` of N generated pictures, divided by that of N photos; 1 is best."""
    energies = [
        fine_energy(images, products, small_resolution=small_resolution) for images in (generated, real)
    ]
    return energies[0] / energies[1]


def white_border(images: Tensor) -> float:
    """Returns the share of pure white pixels within `BORDER` of the edge of (N, 3, R, R) uint8 pictures."""
    is_white = (images == _WHITE).all(dim=1)
    is_border = torch.ones_like(is_white[0])
    is_border[BORDER:-BORDER, BORDER:-BORDER] = False
    return float(is_white[:, is_border].float().mean())


def _pairs(images: Tensor, products: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields each luminance (R, R) float32 with the pixels of its product.

    It yields them one by one, to avoid a second copy of all pictures in memory.
    """
    weights = torch.tensor(LUMINANCE)[:, None, None]
    for image, product in zip(images, products, strict=True):
        yield (image.float() * weights).sum(dim=0), product


def _above(luminance: Tensor, limit: int) -> Tensor:
    """Removes from (R, R) all frequencies that are at most `limit` cycles a side in both directions."""
    side = luminance.shape[0]
    spectrum = torch.fft.rfft2(luminance)
    down = torch.fft.fftfreq(side, d=1 / side).abs()[:, None] <= limit
    across = torch.fft.rfftfreq(side, d=1 / side)[None] <= limit
    kept: Tensor = torch.fft.irfft2(torch.where(down & across, 0, spectrum), s=(side, side))
    return kept
