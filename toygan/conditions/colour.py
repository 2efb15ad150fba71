"""The main colour of a product as a tensor."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

COLOUR_SIZE = 4


def encode_colours(colour_hexes: Sequence[str | None]) -> Tensor:
    """`#RRGGBB` (or None where the colour is unknown) to (B, 4) float32: L*/50 - 1, a*/50, b*/50, and 1.

    An unknown colour is all zeros, the last column included. CIELAB is of sRGB under D65.
    """
    from skimage.color import rgb2lab

    encoded = np.zeros((len(colour_hexes), COLOUR_SIZE), dtype=np.float32)
    known = [row for row, colour_hex in enumerate(colour_hexes) if colour_hex is not None]
    if known:
        rgb = np.array([list(bytes.fromhex(str(colour_hexes[row]).removeprefix("#"))) for row in known])
        encoded[known, :3] = rgb2lab(rgb[:, None, :] / 255.0)[:, 0] / 50.0
        encoded[known, 0] -= 1.0
        encoded[known, 3] = 1.0
    return torch.from_numpy(encoded)
