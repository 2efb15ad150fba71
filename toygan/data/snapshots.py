"""Makes synthetic snapshots from studio photos and their exact layouts.

The product is cut out, gets the light of a room, and stands on any ground. It casts a shadow, the ground's
colour is reflected on the product, and other products may stand behind. Then the picture gets the faults of a
phone's picture: wrong exposure and white balance, vignetting, blur and noise. Sources: Tobin et al. 2017
(domain randomisation) and Dwibedi et al. 2017 (cut and paste).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from toygan.data.grounds import chance, colour, draw_ground, noise, uniform
from toygan.models.studio import own_colours

SEVERAL_SHARE: Final = 0.06  # share of the snapshots with two products side by side in front
LIT: Final = 0.96  # from this brightness on, the studio's ground counts as free of shadow
EMPTY_SHARE: Final = 0.04  # share of the snapshots without any product
PRINT_SHARE: Final = 0.35  # share of the snapshots for the mask network with flat shapes on the ground


@dataclass(frozen=True, kw_only=True)
class Cutout:
    """A product in a studio photo."""

    photo: Tensor  # (3, R, R) float32 in [0, 1]
    mask: Tensor  # (1, R, R) float32, 0 or 1
    is_transparent: bool = False

    def mirrored(self) -> "Cutout":
        return replace(self, photo=self.photo.flip(-1), mask=self.mask.flip(-1))


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A picture as a phone would take it, with the product's mask."""

    picture: Tensor  # (3, R, R) float32 in [0, 1]
    mask: Tensor  # (1, R, R) float32, 0 or 1: where the product is


def framed_snapshot(cutout: Cutout, others: Sequence[Cutout], rng: torch.Generator) -> Snapshot:
    """Returns a snapshot in which the product covers exactly the same pixels as in the studio photo."""
    ground, horizon = draw_ground(cutout.photo.shape[-1], rng)
    ground = _with_others(ground, horizon, others, cutout.mask, rng)
    return _as_telephone(Snapshot(picture=_stand(cutout, ground, rng), mask=cutout.mask), rng)


def free_snapshot(cutout: Cutout, others: Sequence[Cutout], rng: torch.Generator) -> Snapshot:
    """Returns a snapshot in which the product has any size and place.

    Sometimes there are two products, or none.
    """
    ground, horizon = draw_ground(cutout.photo.shape[-1], rng)
    empty = torch.zeros_like(cutout.mask)
    if chance(EMPTY_SHARE, rng):
        return _as_telephone(Snapshot(picture=ground, mask=empty), rng)
    if others and chance(SEVERAL_SHARE, rng):
        size = uniform(0.35, 0.6, rng)
        left = moved(cutout, size * uniform(0.8, 1, rng), (-0.5, uniform(-0.1, 0.3, rng)))
        right = moved(others[0], size * uniform(0.8, 1, rng), (0.5, uniform(-0.1, 0.3, rng)))
        picture = _stand(right, _stand(left, ground, rng), rng)
        return _as_telephone(Snapshot(picture=picture, mask=torch.maximum(left.mask, right.mask)), rng)
    size = uniform(0.42, 1.05, rng)
    free = max(0.0, 1 - 0.85 * size)
    placed = moved(cutout, size, (uniform(-free, free, rng), uniform(-free, free, rng)))
    if chance(PRINT_SHARE, rng):
        ground = print_near(ground, placed, rng)
    ground = _with_others(ground, horizon, others, placed.mask, rng)
    return _as_telephone(Snapshot(picture=_stand(placed, ground, rng), mask=placed.mask), rng)


def retaken(picture: Tensor, rng: torch.Generator) -> Tensor:
    """Gives a real snapshot (3, R, R) in [0, 1] another exposure, white balance and tone curve."""
    warmth, green = uniform(-0.15, 0.15, rng), uniform(-0.05, 0.05, rng)
    balance = torch.tensor([1 + warmth, 1 + green, 1 - warmth]).view(3, 1, 1)
    exposed = (picture * balance * uniform(0.75, 1.25, rng)).clamp(0, 1)
    return exposed.pow(uniform(0.85, 1.18, rng))


def moved(cutout: Cutout, scale: float, shift: tuple[float, float]) -> Cutout:
    """Scales a cutout by `scale`, and moves it by `shift` to the right and down.

    The unit is half of the picture's side.
    """
    side = cutout.photo.shape[-1]
    matrix = torch.tensor([[1 / scale, 0, -shift[0] / scale], [0, 1 / scale, -shift[1] / scale]])[None]
    grid = F.affine_grid(matrix, [1, 1, side, side], align_corners=False)
    # 1 is subtracted because grid_sample fills with zeros; so the ground outside the photo becomes white
    layers = torch.cat([cutout.photo - 1, cutout.mask])[None]
    if scale < 0.75:
        layers = F.avg_pool2d(layers, 3, stride=1, padding=1)
    found = F.grid_sample(layers, grid, align_corners=False)[0]
    return replace(cutout, photo=found[:3] + 1, mask=(found[3:] > 0.5).float())


def _with_others(
    ground: Tensor, horizon: float, others: Sequence[Cutout], mask: Tensor, rng: torch.Generator
) -> Tensor:
    """Puts other products behind the product: their lower edges are higher in the picture."""
    rows = mask[0].any(dim=1).nonzero()
    if not len(rows):
        return ground
    bottom, side = int(rows[-1]), mask.shape[-1]
    for other in others:
        size = uniform(0.2, 0.75, rng)
        # the height of the lower edge
        low = uniform(max(0.1, horizon + 0.02), max(0.15, bottom / side - 0.12), rng)
        inside = other.mask[0].any(dim=1).nonzero()
        foot = (float(inside[-1]) / side * 2 - 1) * size if len(inside) else 0.0
        placed = moved(other, size, (uniform(-1.2, 1.2, rng), 2 * low - 1 - foot))
        ground = _stand(placed, ground, rng)
    return ground


def print_near(ground: Tensor, cutout: Cutout, rng: torch.Generator) -> Tensor:
    """Prints flat shapes on the ground near the product, about half of them in its colour.

    Without these, a mask network takes patches of the ground for parts of the product.
    """
    inside = cutout.mask[0] > 0
    if not inside.any():
        return ground
    own = cutout.photo[:, inside].median(dim=1).values.view(3, 1, 1)
    places = inside.nonzero().float()
    centre, reach = places.mean(dim=0), float((places.amax(dim=0) - places.amin(dim=0)).max()) + 1
    side = ground.shape[-1]
    down, across = torch.arange(side).view(-1, 1), torch.arange(side).view(1, -1)
    for _ in range(int(uniform(1, 6, rng))):
        width = reach * uniform(0.08, 0.5, rng)
        dy = (down - centre[0] - reach * uniform(-0.6, 0.6, rng)).abs() / (width * uniform(0.3, 0.7, rng))
        dx = (across - centre[1] - reach * uniform(-0.6, 0.6, rng)).abs() / width
        kind = int(uniform(0, 3, rng))  # an ellipse, a rectangle, a rhombus
        shape = (dx.square() + dy.square(), torch.maximum(dx, dy), dx + dy)[kind] < 1
        tone = own * uniform(0.75, 1.25, rng) if chance(0.5, rng) else colour(rng)
        ground = torch.where(shape, tone.clamp(0, 1), ground)
    return ground


def _stand(cutout: Cutout, ground: Tensor, rng: torch.Generator) -> Tensor:
    """Stands the product on the ground, in the light of a room."""
    side = ground.shape[-1]
    # There are up to two shadows: the studio's soft shadow, made stronger, and sometimes the hard shadow of a
    # lamp.
    soft = (cutout.photo.mean(dim=0, keepdim=True) / LIT * (1 - cutout.mask) + cutout.mask).clamp(0.5, 1)
    shaded = ground * soft.pow(uniform(1, 7, rng))
    if chance(0.8, rng):
        shaded = shaded * (1 - uniform(0.15, 0.7, rng) * _cast(cutout.mask, rng))
    light = 1 + uniform(0, 0.5, rng) * (noise(side, side, (3, 3), rng) - 0.5)
    product = _relit(cutout, rng) * light
    if cutout.is_transparent:
        # The photo shows how much of the white ground's light passes through the product.
        product = torch.lerp(product, shaded * cutout.photo / LIT, uniform(0.3, 0.9, rng))
    product = _reflecting(product, ground, cutout.mask, rng)
    soft_mask = F.avg_pool2d(F.pad(cutout.mask[None], (1, 1, 1, 1), mode="replicate"), 3, stride=1)[0]
    alpha = torch.lerp(cutout.mask, soft_mask, 0.7)
    return (alpha * product + (1 - alpha) * shaded).clamp(0, 1)


def _cast(mask: Tensor, rng: torch.Generator) -> Tensor:
    """Returns the shadow of the mask on the floor, (1, R, R) in [0, 1].

    It is the mask of the product, sheared about its lower edge and blurred.
    """
    side = mask.shape[-1]
    rows = mask[0].any(dim=1).nonzero()
    if not len(rows):
        return torch.zeros_like(mask)
    foot = float(rows[-1]) / side * 2 - 1
    lean, height = uniform(-1.5, 1.5, rng), uniform(0.15, 0.6, rng)
    matrix = torch.tensor([[1, lean / height, -lean / height * foot], [0, 1 / height, foot - foot / height]])[
        None
    ]
    grid = F.affine_grid(matrix, [1, 1, side, side], align_corners=False)
    cast = F.grid_sample(mask[None], grid, align_corners=False)
    cell = max(1, side // int(uniform(24, 128, rng)))
    small = F.avg_pool2d(cast, cell, ceil_mode=True, count_include_pad=False)
    return F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)[0]


def _relit(cutout: Cutout, rng: torch.Generator) -> Tensor:
    """Changes the brightness of the product by a random curve, and sometimes adds gloss."""
    # removes the white ground that is mixed into the product's edge
    photo = (own_colours(cutout.photo[None] * 2 - 1, cutout.mask[None])[0] + 1) / 2
    own = photo.pow(uniform(0.8, 1.7, rng))
    grey = photo.mean(dim=0, keepdim=True)
    bands = noise(1, 64, (1, int(uniform(3, 8, rng))), rng)[0, 0]  # a random curve of brightness
    curve = 1 + uniform(0, 0.7, rng) * (bands[(grey * 63).long().clamp(0, 63)] - 0.5)
    gloss = (grey - 0.75).clamp_min(0) * uniform(0, 2, rng)
    return own * curve + gloss


def _reflecting(product: Tensor, ground: Tensor, mask: Tensor, rng: torch.Generator) -> Tensor:
    """Tints the product with the ground's colour, most at the product's lower edge."""
    rows = mask[0].any(dim=1).nonzero()
    if not len(rows):
        return product
    side = mask.shape[-1]
    top, bottom = int(rows[0]), int(rows[-1])
    height = ((torch.arange(side) - top) / max(1, bottom - top)).clamp(0, 1).view(1, -1, 1)
    mean = ground[:, max(0, bottom - side // 5) : bottom + 1].mean(dim=(1, 2), keepdim=True)
    amount = uniform(0, 0.5, rng) * height.square() + uniform(0, 0.2, rng)
    tinted = product * (mean / mean.max().clamp_min(0.05)).clamp(0.2, 1)
    mirrored = uniform(0, 0.25, rng) * height.square() * mean
    return torch.lerp(product, tinted, amount) + mirrored


def _as_telephone(snapshot: Snapshot, rng: torch.Generator) -> Snapshot:
    """Changes exposure and white balance, and adds uneven light, vignetting, haze, blur and noise."""
    picture = snapshot.picture
    side = picture.shape[-1]
    warmth, green = uniform(-0.25, 0.25, rng), uniform(-0.06, 0.06, rng)
    balance = torch.tensor([1 + warmth, 1 + green, 1 - warmth]).view(3, 1, 1)
    light = 1 + uniform(0, 0.6, rng) * (noise(side, side, (2, 2), rng) - 0.5)
    across = torch.linspace(-1, 1, side)
    vignette = (
        1 - uniform(0, 0.3, rng) * (across.view(1, 1, -1).square() + across.view(1, -1, 1).square()) / 2
    )
    exposure = uniform(0.55, 1.35, rng)
    seen = (picture * balance * light * vignette).clamp(0, 2) * exposure
    seen = seen.clamp(0, 1.2).pow(uniform(0.75, 1.35, rng))
    if chance(0.3, rng):
        seen = seen + uniform(0, 0.12, rng) * (1 - seen)  # haze
    if chance(0.6, rng):
        blurred = F.avg_pool2d(F.pad(seen[None], (1, 1, 1, 1), mode="replicate"), 3, stride=1)[0]
        seen = torch.lerp(seen, blurred, uniform(0, 1, rng))
    seen = seen + uniform(0, 0.03, rng) * torch.randn(seen.shape, generator=rng)
    return Snapshot(picture=seen.clamp(0, 1), mask=snapshot.mask)
