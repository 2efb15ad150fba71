"""The colours of a product as tensors."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from toygan.conditions.colour_hex import hex_to_rgb

COLOUR_SIZE = 4


def encode_colours(colour_hexes: Sequence[str | None]) -> Tensor:
    """Encodes colours `#RRGGBB` as (B, 4) float32: L*/50 - 1, a*/50, b*/50, and 1.

    None stands for an unknown colour and gives four zeros. CIELAB is computed from sRGB under D65. Raises
    BadInput for any other value.
    """
    from skimage.color import rgb2lab

    encoded = np.zeros((len(colour_hexes), COLOUR_SIZE), dtype=np.float32)
    known = [(row, hex_to_rgb(text)) for row, text in enumerate(colour_hexes) if text is not None]
    if known:
        rows, rgb = zip(*known, strict=True)
        encoded[rows, :3] = rgb2lab(np.array(rgb)[:, None, :] / 255.0)[:, 0] / 50.0
        encoded[rows, 0] -= 1.0
        encoded[rows, 3] = 1.0
    return torch.from_numpy(encoded)


def encode_accents(accent_hexes: Sequence[Sequence[str]], count: int) -> Tensor:
    """Encodes the first `count` accent colours of each product: (B, COLOUR_SIZE * count) float32.

    `encode_colours` describes the encoding. The row of a product with fewer colours is filled up with zeros.
    """
    padded = [[*each[:count], *[None] * (count - len(each))] for each in accent_hexes]
    flat = encode_colours([colour_hex for each in padded for colour_hex in each])
    return flat.view(len(accent_hexes), COLOUR_SIZE * count)
