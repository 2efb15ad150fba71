"""The training batches of a studio: photos, and snapshots of the same products.

Every photo gets synthetic snapshots (`toygan.data.snapshots`). If a photo has a real snapshot, the real
snapshot is used, too.
"""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from toygan.conditions.colour import encode_colours
from toygan.data.augment import draw_some_augmentation
from toygan.data.grounds import chance, uniform
from toygan.data.photos import PhotoSet
from toygan.data.recolour import mix_hex
from toygan.data.snapshots import Cutout, framed_snapshot, free_snapshot, retaken
from toygan.models.mask_network import TRUNK_SIDE
from toygan.training.batches import Batch, mirror
from toygan.training.config import TrainConfig

OWN_SHARE: Final = 0.8  # for photos with a real snapshot, the share of the training images that use it
ROUGH_SHARE: Final = 0.6  # for this share of the images, the mask is made as inexact as a mask network's mask
MOST_OTHERS: Final = 3  # the largest number of products behind the product in snapshots for the mask network
# largest shift as a share of the side, because catalog snapshots are not framed exactly
SHIFT: Final = 6 / 256


def draw_snapshots(photos: PhotoSet, rows: Tensor, config: TrainConfig, rng: torch.Generator) -> Batch:
    """Makes a batch of the photos `rows` (B,) int64 with their snapshots; about half are mirrored.

    The batch's `free` snapshots are for the mask network. In these, products have any size and any place.
    """
    pairs = [_pair(photos, row, config, rng) for row in rows.tolist()]
    real, pictures, hexes = zip(*pairs, strict=True)
    count = len(rows)
    mirrored = torch.rand(count, generator=rng) < 0.5
    conditions = {
        "category": photos.category[rows],
        "colour": encode_colours(hexes),
        "photo": mirror(2 * torch.stack(pictures) - 1, mirrored),
    }
    unmoved = draw_some_augmentation(count, config.resolution, rng, probability=0.0)
    nothing = torch.zeros(count, 0)
    return Batch(
        real=mirror(2 * torch.stack(real) - 1, mirrored),
        conditions=conditions,
        latents=(nothing, nothing),
        augmentations=(unmoved, unmoved, unmoved),
        free=2 * torch.stack([_free(photos, row, rng) for row in rows.tolist()]) - 1,
    )


def _pair(
    photos: PhotoSet, row: int, config: TrainConfig, rng: torch.Generator
) -> tuple[Tensor, Tensor, str | None]:
    """Returns a photo (3, R, R) in [0, 1], a snapshot of it with the mask (4, R, R), and the main colour.

    The snapshot is either the photo's real snapshot with changed colours, or a synthetic snapshot made from
    the photo. The main colour may be None.
    """
    photo, snapshot, mask = _layers(photos, row)
    if _has_own(photo, snapshot) and chance(OWN_SHARE, rng):
        picture = retaken(snapshot, rng)
    else:
        picture = framed_snapshot(_cutout(photos, row, photo, mask), (), rng).picture
    if chance(ROUGH_SHARE, rng):
        mask = _rough(mask, rng)
    main = photos.colour_hexes[row]
    if chance(config.data.colour_mixing, rng):
        order = torch.randperm(3, generator=rng)
        photo, picture = photo[order], picture[order]
        main = None if main is None else mix_hex(main, order.tolist())
    if chance(config.data.colour_dropout, rng):
        main = None
    reach = max(1, round(SHIFT * photo.shape[-1]))
    moved = _shifted(torch.cat([photo, picture, mask]), reach, rng)
    return moved[:3], moved[3:], main


def _layers(photos: PhotoSet, row: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the photo and its snapshot (3, R, R), and the product's mask (1, R, R), all in [0, 1]."""
    assert photos.condition_images is not None
    framed = photos.condition_images[row].permute(2, 0, 1).float() / 255
    return photos.images[row].float() / 255, framed[:3], (framed[3:] > 0.5).float()


def _has_own(photo: Tensor, snapshot: Tensor) -> bool:
    """Whether the photo has a real snapshot.

    If it has none, `toygan.data.photos` puts the photo in the snapshot's place.
    """
    return not torch.equal(photo, snapshot)


def _free(photos: PhotoSet, row: int, rng: torch.Generator) -> Tensor:
    """Returns a snapshot for the mask network, (4, S, S) in [0, 1]."""
    if photos.free_snapshots is not None and chance(OWN_SHARE, rng):
        layers = photos.free_snapshots[row].permute(2, 0, 1).float() / 255
        if layers[3].any():
            return torch.cat([retaken(layers[:3], rng), layers[3:]])
    photo, snapshot, mask = (_small(each) for each in _layers(photos, row))
    if _has_own(photo, snapshot) and chance(OWN_SHARE, rng):
        return torch.cat([retaken(snapshot, rng), (mask > 0.5).float()])
    behind = torch.randint(len(photos), (int(uniform(0, MOST_OTHERS + 1, rng)),), generator=rng).tolist()
    others = []
    for other in behind:
        of_other = [_small(each) for each in _layers(photos, other)]
        others.append(_cutout(photos, other, of_other[0], of_other[2]))
    made = free_snapshot(_cutout(photos, row, photo, mask), others, rng)
    return torch.cat([made.picture, made.mask])


def _cutout(photos: PhotoSet, row: int, photo: Tensor, mask: Tensor) -> Cutout:
    is_transparent = photos.finishes[row] == "transparent"
    return Cutout(photo=photo, mask=(mask > 0.5).float(), is_transparent=is_transparent)


def _small(layer: Tensor) -> Tensor:
    if layer.shape[-1] == TRUNK_SIDE:
        return layer
    return F.interpolate(
        layer[None], size=(TRUNK_SIDE, TRUNK_SIDE), mode="bilinear", antialias=True, align_corners=False
    )[0]


def _rough(mask: Tensor, rng: torch.Generator) -> Tensor:
    """Softens the mask's edge, and moves the edge in or out a little."""
    reach = max(1, mask.shape[-1] // 256)
    size = 2 * reach + 1
    soft = F.avg_pool2d(F.pad(mask[None], (reach,) * 4, mode="replicate"), size, stride=1)[0]
    return ((soft - 0.5) * uniform(1.5, 4, rng) + 0.5 + uniform(-0.15, 0.15, rng)).clamp(0, 1)


def _shifted(layers: Tensor, reach: int, rng: torch.Generator) -> Tensor:
    side = layers.shape[-1]
    top, left = torch.randint(2 * reach + 1, (2,), generator=rng).tolist()
    padded = F.pad(layers[None], (reach,) * 4, mode="replicate")[0]
    return padded[:, top : top + side, left : left + side]
