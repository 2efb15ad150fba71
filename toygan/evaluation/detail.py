"""How much detail a picture holds beyond what an enlargement can: the figures of a second stage."""

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

CROP: Final = 224  # pixels
BORDER: Final = 8  # pixels
LUMINANCE: Final = (0.2126, 0.7152, 0.0722)  # of linear light, ITU-R BT.709; here of sRGB values, for detail
_WHITE: Final = 255


def crops(images: Tensor) -> Tensor:
    """(N, 3, R, R) uint8 to four squares of `CROP` pixels of each, (4 N, 3, CROP, CROP), at full resolution.

    They lie around the middle and hardly overlap. Raises ValueError for pictures that are smaller.
    """
    side = images.shape[-1]
    if side < CROP:
        raise ValueError(f"pictures of {side} pixels; crops have {CROP}")
    first = max(0, side // 2 - CROP)
    second = min(side - CROP, first + CROP)
    corners = [(top, left) for top in (first, second) for left in (first, second)]
    return torch.cat([images[:, :, top : top + CROP, left : left + CROP] for top, left in corners])


def fine_energy(images: Tensor, products: Tensor, *, small_resolution: int) -> float:
    """Mean energy of the luminance inside the products, of what pictures of `small_resolution` cannot hold.

    Of (N, 3, R, R) uint8 pictures all frequencies go that are at most half of `small_resolution` a side, both
    ways (Nyquist's limit); the mean square of what is left is over the pixels of `products`, (N, R, R) bool.
    In units of a squared step of 255. Raises ValueError where no pixel is of a product.
    """
    if not products.any():
        raise ValueError("no pixel shows a product")
    total = 0.0
    for picture, product in _pairs(images, products):
        left_over = _above(picture, small_resolution // 2)
        total += float(left_over.square()[product].sum())
    return total / int(products.sum())


def effective_resolution(
    generated: Tensor, real: Tensor, products: Tensor, *, small_resolution: int
) -> float:
    """`fine_energy` of N generated pictures by that of the N photos of the same `products`; 1 is right."""
    energies = [
        fine_energy(images, products, small_resolution=small_resolution) for images in (generated, real)
    ]
    return energies[0] / energies[1]


def white_border(images: Tensor) -> float:
    """Share of the pixels within `BORDER` of the edge of (N, 3, R, R) uint8 pictures that are pure white."""
    is_white = (images == _WHITE).all(dim=1)
    is_border = torch.ones_like(is_white[0])
    is_border[BORDER:-BORDER, BORDER:-BORDER] = False
    return float(is_white[:, is_border].float().mean())


def _pairs(images: Tensor, products: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Luminances (R, R) float32 and their products, one by one: memory holds no second copy of all."""
    weights = torch.tensor(LUMINANCE)[:, None, None]
    for image, product in zip(images, products, strict=True):
        yield (image.float() * weights).sum(dim=0), product


def _above(luminance: Tensor, limit: int) -> Tensor:
    """(R, R) without the frequencies of at most `limit` cycles a side both ways."""
    side = luminance.shape[0]
    spectrum = torch.fft.rfft2(luminance)
    down = torch.fft.fftfreq(side, d=1 / side).abs()[:, None] <= limit
    across = torch.fft.rfftfreq(side, d=1 / side)[None] <= limit
    kept: Tensor = torch.fft.irfft2(torch.where(down & across, 0, spectrum), s=(side, side))
    return kept
