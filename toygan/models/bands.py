"""The fine detail of pictures, split by size and direction.

An undecimated ("à trous") wavelet transform: Holschneider et al. 1989, "A real-time algorithm for signal
analysis with the help of the wavelet transform". Low and high pass are (1, 2, 1) / 4 and (-1, 2, -1) / 4, in
the second octave with zeros in between. The first octave has the wavelengths below about 4 pixels, the second
those from 4 to 8. So both together are what a picture of a quarter of the resolution cannot show.
"""

from typing import Final

import torch.nn.functional as F
from torch import Tensor

OCTAVES: Final = 2
REACH: Final = 3  # pixels: the filters of all octaves together reach so far in each direction


def detail_bands(images: Tensor) -> list[Tensor]:
    """Returns what varies across, down and in both directions, for each octave.

    `images` are (B, C, H, W). The maps of the first octave are (B, C, H - 2, W - 2), those of the second
    (B, C, H - 6, W - 6), because the edges are not padded.
    """
    bands: list[Tensor] = []
    low = images
    for octave in range(OCTAVES):
        smooth, down = _split(low, -2, 2**octave)
        low, across = _split(smooth, -1, 2**octave)
        bands += [across, *_split(down, -1, 2**octave)]
    return bands


def fine_detail(images: Tensor) -> Tensor:
    """Returns the sum of all detail, (B, C, H, W): the pictures without what is left after both octaves."""
    low = F.pad(images, (REACH,) * 4, mode="replicate")
    for octave in range(OCTAVES):
        for axis in (-2, -1):
            low, _ = _split(low, axis, 2**octave)
    return images - low


def _split(values: Tensor, axis: int, step: int) -> tuple[Tensor, Tensor]:
    """Returns the low and the high pass along one axis, which gets shorter by 2 * `step`."""
    length = values.shape[axis] - 2 * step
    middle = values.narrow(axis, step, length)
    around = (values.narrow(axis, 0, length) + values.narrow(axis, 2 * step, length)) / 2
    return (middle + around) / 2, (middle - around) / 2
