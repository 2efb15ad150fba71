"""Puts lit products on grounds, with other products behind, and takes the picture with a phone's faults.

All pictures are (C, S, S) float32 tensors. Light is linear until `as_phone`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tests.benchmarks.rendering.light import WINDOW, Surface, Transfer, draw_room, to_linear, to_srgb
from toygan.data.grounds import draw_ground
from toygan.data.snapshots import Cutout, print_near

SIDE: Final = 256  # pixels of a snapshot
PRINT_SHARE: Final = 0.3  # share of the snapshots for the mask network with flat shapes around the product
POLISHED_SHARE: Final = 0.25  # share of the grounds that mirror a little of the light everywhere
USUAL_LIGHT: Final = 0.3  # linear brightness that most exposures give to a pixel of medium brightness
MOST_KEPT: Final = 80


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the photo's frame lies in a snapshot."""

    scale: float = 1.0  # the side of the frame by that of the snapshot
    right: float = 0.0  # of the middle, in halves of the snapshot's side
    down: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Bystander:
    """A product that can stand behind another one."""

    layers: Tensor  # (4, H, H): the product, premultiplied with its coverage, of a window of `WINDOW` frames
    shadow: Tensor  # (1, H, H) in [0, 1]: what its ground receives, by what free ground receives
    foot: float  # height of its lowest pixel, in halves of the frame's side, downwards


class Scenes:
    """Makes snapshots. Some products are kept, to stand behind later ones."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._torch_rng = torch.Generator().manual_seed(seed)
        self._bystanders: list[Bystander] = []

    def framed(self, transfer: Transfer, surface: Surface) -> tuple[Tensor, Tensor]:
        """Returns a snapshot (3, S, S) sRGB in [0, 1] in the photo's own frame, and its coverage (S, S)."""
        return self._snapshot(transfer, surface, Place(), prints=0.0, lowest=0.35, most_others=3)

    def free(self, transfer: Transfer, surface: Surface, mask: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
        """Returns a snapshot in which the product has any size and place; `mask` is that of the photo."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        height, width = (float(np.ptp(lines)) / len(mask) for lines in (rows, columns))
        longest = max(height, width)
        scale = self._rng.uniform(0.42, 0.85) / longest
        room = 0.97 - longest * scale
        middle_x, middle_y = ((lines[0] + lines[-1]) / len(mask) - 1 for lines in (columns, rows))
        right, down = self._rng.uniform(-room, room, 2)
        place = Place(scale=scale, right=right - middle_x * scale, down=down - middle_y * scale)
        lowest = down + height * scale - 0.2
        return self._snapshot(transfer, surface, place, prints=PRINT_SHARE, lowest=lowest, most_others=4)

    def _snapshot(
        self,
        transfer: Transfer,
        surface: Surface,
        place: Place,
        *,
        prints: float,
        lowest: float,
        most_others: int,
    ) -> tuple[Tensor, Tensor]:
        rng = self._rng
        ground, horizon = draw_ground(SIDE, self._torch_rng)
        if rng.random() < prints:
            ground = print_near(ground, _flat(transfer, place), self._torch_rng)
        shade = torch.from_numpy(to_linear(ground.clamp(0, 1).numpy())) * rng.uniform(0.6, 1)
        if rng.random() < POLISHED_SHARE:
            shade = shade + rng.uniform(0, 0.08)
        near = shade if rng.random() < 0.5 else shade[:, SIDE // 2 :]
        lit, on_ground = transfer.lit(draw_room(rng), near.mean(dim=(1, 2)).numpy(), surface)
        product = torch.from_numpy(lit).permute(2, 0, 1)
        free, received = _faded(torch.from_numpy(on_ground).permute(2, 0, 1), product.shape[-1])
        picture = shade * free
        if self._bystanders:
            chosen = rng.integers(len(self._bystanders), size=rng.integers(0, most_others + 1))
            others = [self._bystanders[index] for index in chosen]
            picture = self._with_others(picture, others, horizon, lowest, float(free.mean()))
        shadow = (received / free.clamp_min(1e-3)).clamp(0, 1.3)
        picture = picture * _placed(shadow, place, beyond="border")
        layers = _placed(product, place)
        if rng.random() < 0.5:
            self._keep(product / received.mean().clamp_min(1e-3), shadow, product[3])
        return self._as_phone(picture * (1 - layers[3:]) + layers[:3]), layers[3]

    def _with_others(
        self, picture: Tensor, others: Sequence[Bystander], horizon: float, lowest: float, light: float
    ) -> Tensor:
        """Puts others behind the product: their feet are not below `lowest`, downwards from -1 to 1."""
        highest = max(-0.85, 2 * horizon - 1)
        for other in others:
            scale = self._rng.uniform(0.25, 0.8)
            foot = self._rng.uniform(highest, max(highest + 0.05, lowest))
            place = Place(scale=scale, right=self._rng.uniform(-1.2, 1.2), down=foot - other.foot * scale)
            layers = _placed(other.layers, place)
            picture = picture * _placed(other.shadow, place, beyond="border") * (1 - layers[3:])
            picture = picture + layers[:3] * light
        return picture

    def _keep(self, lit: Tensor, shadow: Tensor, coverage: Tensor) -> None:
        rows = (coverage > 0.5).any(dim=1).nonzero()
        if not len(rows):
            return
        foot = (2 * float(rows[-1]) / len(coverage) - 1) * WINDOW
        layers = torch.cat([lit[:3], coverage[None]])
        shadow = shadow.mean(dim=0, keepdim=True).clamp(0, 1)
        self._bystanders.append(Bystander(layers=layers, shadow=shadow, foot=foot))
        if len(self._bystanders) > MOST_KEPT:
            self._bystanders.pop(int(self._rng.integers(MOST_KEPT)))

    def _as_phone(self, light: Tensor) -> Tensor:
        """Gives linear light a phone's white balance, exposure, tone curve, haze, blur and noise."""
        rng = self._rng
        warmth, green = rng.uniform(-0.22, 0.22), rng.uniform(-0.06, 0.06)
        balance = torch.tensor([1 + warmth, 1 + green, 1 - warmth], dtype=torch.float32).view(3, 1, 1)
        across = torch.linspace(-1, 1, SIDE)
        vignette = 1 - rng.uniform(0, 0.3) * (across.view(1, -1, 1) ** 2 + across.view(1, 1, -1) ** 2) / 2
        brightness = (light * torch.tensor([0.2, 0.7, 0.1]).view(3, 1, 1)).sum(dim=0)
        medium = max(1e-3, float(torch.quantile(brightness, rng.uniform(0.5, 0.75))))
        exposure = math.exp(rng.normal(math.log(USUAL_LIGHT), 0.35)) / medium
        seen = light * balance * vignette * exposure
        if rng.random() < 0.5:  # bright pixels are pressed together
            seen = seen / (1 + seen * rng.uniform(0, 0.5))
        picture = torch.from_numpy(to_srgb(seen.numpy())).clamp(0, 1.05).pow(rng.uniform(0.8, 1.25))
        if rng.random() < 0.5:  # haze
            picture = picture + rng.uniform(0, 0.15) * (1 - picture)
        if rng.random() < 0.7:
            picture = torch.lerp(picture, _smooth(picture, 3), rng.uniform(0, 0.9))
        noise = torch.from_numpy(rng.normal(0, 1, picture.shape).astype(np.float32))
        return (picture + rng.uniform(0, 0.03) * noise).clamp(0, 1)


def _flat(transfer: Transfer, place: Place) -> Cutout:
    """Returns the product's place in its mean colour."""
    coverage = torch.from_numpy(transfer.shown[None].astype(np.float32))
    colour = torch.from_numpy(to_srgb(transfer.albedo.mean(axis=0))).view(3, 1, 1)
    mask = (_placed(coverage, place) > 0.5).float()
    return Cutout(photo=colour.expand(3, SIDE, SIDE), mask=mask)


def _faded(on_ground: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Returns the light of free ground (3, 1, 1), and that of all ground, smooth, (3, side, side).

    Towards the window's edges, the second becomes that of free ground.
    """
    large = F.interpolate(on_ground[None], size=(side, side), mode="bilinear", align_corners=False)[0]
    large = _smooth(_smooth(large, 5), 3)
    free = torch.quantile(large.reshape(3, -1)[:, ::17], 0.9, dim=1).view(3, 1, 1)
    off = torch.linspace(-1, 1, side).abs()
    inside = (4 * (1 - torch.maximum(off.view(1, -1), off.view(-1, 1)))).clamp(0, 1)[None]
    return free, torch.lerp(free, large, inside)


def _smooth(picture: Tensor, size: int) -> Tensor:
    padded = F.pad(picture[None], (size // 2,) * 4, mode="replicate")
    return F.avg_pool2d(padded, size, stride=1)[0]


def _placed(layers: Tensor, place: Place, beyond: str = "zeros") -> Tensor:
    """Lays a window (C, H, H) of `WINDOW` frames into a snapshot (C, SIDE, SIDE)."""
    pixels_each = layers.shape[-1] / (SIDE * WINDOW * place.scale)
    if pixels_each > 1.3:
        size = int(layers.shape[-1] / pixels_each)
        layers = F.interpolate(
            layers[None], size=(size, size), mode="bilinear", antialias=True, align_corners=False
        )[0]
    step = 1 / (place.scale * WINDOW)
    matrix = torch.tensor(
        [[step, 0, -place.right * step], [0, step, -place.down * step]], dtype=torch.float32
    )
    grid = F.affine_grid(matrix[None], [1, 1, SIDE, SIDE], align_corners=False)
    return F.grid_sample(layers[None], grid, padding_mode=beyond, align_corners=False)[0]
