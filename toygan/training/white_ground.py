"""Fits the white of an enhancer's pictures to that of its training photos.

The border of a photo is mostly pure white. The losses of the training hardly notice a tenth of a brightness
step, so an enhancer may draw white a little too dark, and much of it is rounded to 254 of 255. One number,
added to all pixels, corrects that.
"""

from collections.abc import Mapping
from typing import Final

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from toygan.artifact.config import ModelConfig
from toygan.artifact.files import CONFIG
from toygan.artifact.weights import load_weights
from toygan.conditions.image import encode_images
from toygan.images import from_uint8
from toygan.training.pairs import PhotoPairs

MOST_PHOTOS: Final = 64  # spread over all photos
BISECTIONS: Final = 24  # halvings of the interval of possible shifts
BORDER_PART: Final = 64  # the border is this part of a picture's side wide
WHITE: Final = 255
FIRST_WHITE: Final = 254.5 / 127.5 - 1  # the least value in [-1, 1] that is rounded to WHITE
GENERATOR: Final = "generator.safetensors"
BIAS: Final = "to_rgb.bias"  # added to all pixels of a picture


def with_white_ground(
    files: Mapping[str, bytes], photos: PhotoPairs, device: torch.device
) -> dict[str, bytes]:
    """Returns the files of an enhancer with a corrected bias of its last layer; see `white_shift`."""
    config = ModelConfig.from_json(files[CONFIG], CONFIG)
    with torch.random.fork_rng(devices=[]):
        generator, _ = config.build()
    weights = load(files[GENERATOR])
    load_weights(generator, weights)
    shift = white_shift(generator.eval().to(device), photos, device)
    return {**files, GENERATOR: save({**weights, BIAS: weights[BIAS] + shift})}


@torch.inference_mode()
def white_shift(generator: nn.Module, photos: PhotoPairs, device: torch.device) -> float:
    """Returns the number that makes as much of the pictures' border pure white as of the photos' border.

    The pictures are those of the first stages, enlarged with their drawings; without a first stage, they are
    the downscaled photos. The pictures of several first stages differ. Then the largest difference to the
    photos is made as small as possible. Returns 0 if no border pixel of the photos is white, or if all are.
    """
    rows = torch.linspace(0, len(photos) - 1, min(len(photos), MOST_PHOTOS)).long()
    wanted = float(_border((photos.images[rows] == WHITE).all(dim=1)).float().mean())
    if wanted in (0.0, 1.0):
        return 0.0
    latents = torch.zeros(1, 0, device=device)
    darkest = []  # for each first stage, the darkest channel of the border pixels
    for variant in range(max(1, len(photos.sources) - 1)):
        pictures = (generator(latents, _conditions(photos, row, variant, device)) for row in rows.tolist())
        darkest.append(torch.cat([_border(picture.amin(dim=1).cpu()) for picture in pictures]))

    def excess(shift: float) -> float:
        shares = [float((values >= FIRST_WHITE - shift).float().mean()) for values in darkest]
        return (max(shares) + min(shares)) / 2 - wanted

    low, high = (FIRST_WHITE - float(end) for end in torch.cat(darkest).aminmax()[::-1])
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if excess(middle) >= 0 else (middle, high)
    return high


def _conditions(photos: PhotoPairs, row: int, variant: int, device: torch.device) -> dict[str, Tensor]:
    """Returns a small picture with the drawings that it was made from."""
    assert photos.condition_images is not None
    assert photos.lines is not None
    source, chosen = photos.sources[variant], slice(row, row + 1)
    conditions = {"small": from_uint8(photos.small[chosen, variant])}
    if source.layout or source.is_photo:
        conditions["layout"] = encode_images("layout", photos.condition_images[chosen])
    if source.lines or source.is_photo:
        conditions["sketch"] = encode_images("sketch", photos.lines[chosen])
    return {name: value.to(device) for name, value in conditions.items()}


def _border(pictures: Tensor) -> Tensor:
    """Returns the values (K,) near the edges of (B, R, R)."""
    side = pictures.shape[-1]
    width = max(1, side // BORDER_PART)
    inside = torch.zeros(side, side, dtype=torch.bool)
    inside[width:-width, width:-width] = True
    return pictures[:, ~inside].flatten()
