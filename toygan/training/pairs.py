"""The training pairs of an enhancer: a crop of a photo, and the same crop of a small picture.

There are two types of small pictures. Those of a first stage are generated from a photo's own layout or
sketch. From the first type the enhancer learns to correct the errors of the first stage. The others are
downscaled and degraded photos. From the second type it learns the details of correct pictures. Wang et al.
2021 (Real-ESRGAN), section 3, use only the second type.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from toygan.conditions.condition_types import BACKGROUND
from toygan.conditions.image import PAPER
from toygan.data.augment import draw_shifts
from toygan.data.photos import PhotoSet
from toygan.images import from_uint8
from toygan.training.batches import Batch, mirror
from toygan.training.config import TrainConfig

SHRUNK_SHARE: Final = 1 / 3  # share of the crops with a downscaled photo instead of a first stage's picture
ON_PRODUCT_SHARE: Final = 0.85  # share of the crops around a point of the product; other crops are anywhere
# each drawing of a downscaled photo is left out with this probability
WITHHELD_SHARE: Final = 0.25
COARSE_SHARES: Final = (0.3, 0.15)  # shares of the drawings with half and with a quarter of the resolution
# The discriminator gets its pictures moved by up to this many pixels in each direction. The frozen network
# reduces them in steps of 2 pixels, and would miss some patterns if these always fell on the same pixels.
SHIFT: Final = 2
# the largest standard deviation of the noise on downscaled photos, in units of [-1, 1]
MOST_NOISE: Final = 0.06


@dataclass(frozen=True, kw_only=True)
class Source:
    """Says what a small picture was made from."""

    layout: bool = False
    lines: bool = False
    is_photo: bool = False


@dataclass(frozen=True, kw_only=True)
class PhotoPairs(PhotoSet):
    """N photos with layouts and lines, and V small pictures of each photo."""

    small: Tensor  # (N, V, 3, r, r) uint8
    # the sources of the V small pictures of a photo; the last is the downscaled photo itself
    sources: tuple[Source, ...]

    def conditions(self, rows: Tensor) -> dict[str, Tensor]:
        """Returns the conditions of whole photos: the first small picture and its drawings."""
        given, source = super().conditions(rows), self.sources[0]
        small = {"small": from_uint8(self.small[rows, 0])}
        shows = {"layout": source.layout or source.is_photo, "sketch": source.lines or source.is_photo}
        return small | {name: given[name] for name, is_shown in shows.items() if is_shown}

    @cached_property
    def sha256(self) -> str:
        """The hash of all data of the training."""
        digest = sha256(super().sha256.encode())
        digest.update(self.small.contiguous().numpy().data)
        return digest.hexdigest()


class _Crop(NamedTuple):
    """One square of C x C pixels of a photo, and the same part of its small picture and drawings."""

    real: Tensor  # (3, C, C) float32 in [-1, 1]
    small: Tensor  # (3, c, c) float32 in [-1, 1]
    layout: Tensor  # (C, C) uint8
    lines: Tensor  # (C, C) uint8


def draw_pairs(photos: PhotoPairs, rows: Tensor, config: TrainConfig, rng: torch.Generator) -> Batch:
    """Makes a batch of crops of the photos `rows` (B,) int64 and of their small pictures.

    About half of the crops are mirrored. The picture of a first stage comes with the drawings from which
    it was made, and no others. The drawings of downscaled photos are sometimes left out. Some drawings have a
    lower resolution than the photo, as drawings in catalogs have.
    """
    crops = [_draw_crop(photos, row, config.data.crop, rng) for row in rows.tolist()]
    real, small, layout, lines = (torch.stack(each) for each in zip(*crops, strict=True))
    count = len(rows)
    mirrored = torch.rand(count, generator=rng) < 0.5
    conditions = {"small": small, "layout": layout.long(), "sketch": from_uint8(lines[:, None])}
    nothing = torch.zeros(count, 0)
    moved = tuple(draw_shifts(count, SHIFT, rng) for _ in range(3))
    return Batch(
        real=mirror(real, mirrored),
        conditions={name: mirror(value, mirrored) for name, value in conditions.items()},
        latents=(nothing, nothing),
        augmentations=(moved[0], moved[1], moved[2]),
    )


def _draw_crop(photos: PhotoPairs, row: int, crop: int, rng: torch.Generator) -> _Crop:
    assert photos.condition_images is not None
    assert photos.lines is not None
    variant, source = _pick_variant(photos.sources, rng)
    layout, scale = photos.condition_images[row], photos.images.shape[-1] // photos.small.shape[-1]
    top, left = _corner(layout, crop, scale, rng)
    large = (slice(top, top + crop), slice(left, left + crop))
    small = tuple(slice(each.start // scale, each.stop // scale) for each in large)
    coarse = _coarseness(rng)
    kept = torch.rand(2, generator=rng) >= WITHHELD_SHARE
    shows_layout = source.layout or bool(source.is_photo and kept[0])
    shows_lines = source.lines or bool(source.is_photo and kept[1])
    given = from_uint8(photos.small[row, variant][:, *small])
    labels, lines = layout[large], photos.lines[row][large]
    return _Crop(
        real=from_uint8(photos.images[row][:, *large]),
        small=_worse(given, rng) if source.is_photo else given,
        layout=_coarser_labels(labels, coarse) if shows_layout else torch.full_like(labels, BACKGROUND),
        lines=_coarser_lines(lines, coarse) if shows_lines else torch.full_like(lines, PAPER),
    )


def _pick_variant(sources: Sequence[Source], rng: torch.Generator) -> tuple[int, Source]:
    """Chooses one of the small pictures; returns its number and its source.

    The last small picture is the downscaled photo.
    """
    last = len(sources) - 1
    chosen, other = torch.rand((), generator=rng), torch.randint(max(last, 1), (), generator=rng)
    number = int(other) if last and chosen >= SHRUNK_SHARE else last
    return number, sources[number]


def _corner(layout: Tensor, crop: int, scale: int, rng: torch.Generator) -> tuple[int, int]:
    """Returns the upper left corner of a crop. Most crops are around a point of the product.

    Its coordinates are multiples of `scale`, so it is also the corner of a pixel of the small picture.
    """
    side = layout.shape[0]
    anywhere, on_product = torch.rand(2, generator=rng), torch.rand((), generator=rng) < ON_PRODUCT_SHARE
    shown, which = (layout[::scale, ::scale] != BACKGROUND).nonzero(), torch.rand((), generator=rng)
    jitter = (torch.rand(2, generator=rng) - 0.5) * crop / 2
    corner = anywhere * (side - crop)
    if on_product and len(shown):
        corner = scale * shown[int(which * len(shown))] + jitter - crop / 2
    top, left = (int(each.clamp(0, side - crop) // scale) * scale for each in corner)
    return top, left


def _coarseness(rng: torch.Generator) -> int:
    """Returns the factor by which the drawings are smaller than the photo: 1, 2 or 4."""
    half, quarter = COARSE_SHARES
    drawn = float(torch.rand((), generator=rng))
    return 4 if drawn < quarter else 2 if drawn < quarter + half else 1


def _coarser_labels(layout: Tensor, factor: int) -> Tensor:
    """Reduces labels (H, W) uint8 by `factor` and enlarges them again."""
    if factor == 1:
        return layout
    return layout[::factor, ::factor].repeat_interleave(factor, 0).repeat_interleave(factor, 1)


def _coarser_lines(lines: Tensor, factor: int) -> Tensor:
    """Reduces lines (H, W) uint8 by `factor` and enlarges them again as `read_sketch` does."""
    if factor == 1:
        return lines
    shrunk = F.avg_pool2d(lines[None, None].float(), factor)
    enlarged = F.interpolate(shrunk, size=tuple(lines.shape), mode="bilinear", align_corners=False)
    return enlarged[0, 0].round().byte()


def _worse(small: Tensor, rng: torch.Generator) -> Tensor:
    """Degrades (3, h, w) in [-1, 1] as first stages do: with blur, and noise of one and two pixels."""
    blur, fine, woven = torch.rand(3, generator=rng)
    smooth = F.avg_pool2d(F.pad(small[None], (1, 1, 1, 1), mode="replicate"), 3, stride=1)[0]
    height, width = small.shape[1:]
    noise = torch.randn((1, height, width), generator=rng)
    coarse = torch.randn((1, 1, (height + 1) // 2, (width + 1) // 2), generator=rng)
    coarse = F.interpolate(coarse, size=(height, width), mode="nearest")[0]
    added: Tensor = MOST_NOISE * (fine.square() * noise + woven.square() * coarse) / 2
    return torch.lerp(small, smooth, blur) + added
