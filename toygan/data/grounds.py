"""Makes pictures of grounds and walls for synthetic snapshots: boards, cloth, stone, carpet, tiles, prints.

All values are in [0, 1]. Textures lie on a floor in perspective, like a table in a phone's picture.
"""

import math
from collections.abc import Callable
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE: Final = 192  # the side of a texture in pixels; the texture repeats
HORIZON_SHARE: Final = 0.35  # share of the snapshots that show a wall behind the floor


def uniform(low: float, high: float, rng: torch.Generator) -> float:
    """Returns a random number from [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=rng))


def chance(probability: float, rng: torch.Generator) -> bool:
    """Returns True with this probability."""
    return bool(torch.rand((), generator=rng) < probability)


def noise(height: int, width: int, cells: tuple[int, int], rng: torch.Generator) -> Tensor:
    """Returns smooth noise (1, height, width), about in [0, 1].

    `cells` are the numbers of cells down and across.
    """
    coarse = torch.rand((1, 1, *cells), generator=rng)
    return F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)[0]


def colour(rng: torch.Generator) -> Tensor:
    """Returns a random colour (3, 1, 1): dull, strong, like wood, near white or near black."""
    kind, values = uniform(0, 1, rng), torch.rand(3, generator=rng)
    if kind < 0.2:
        values = 0.86 + 0.14 * values
    elif kind < 0.32:
        values = 0.1 * values
    elif kind < 0.6:
        values = values.mean() + 0.2 * (values - values.mean())
    elif kind < 0.75:  # wood
        values = torch.tensor([0.78, 0.56, 0.36]) * uniform(0.4, 1.2, rng) + 0.06 * (values - 0.5)
    return values.clamp(0, 1).view(3, 1, 1)


def _plain(rng: torch.Generator) -> Tensor:
    return colour(rng).expand(3, SIDE, SIDE)


def _boards(rng: torch.Generator) -> Tensor:
    grain = noise(SIDE, SIDE, (3, 40), rng) + 0.5 * noise(SIDE, SIDE, (6, 96), rng)
    lines = (torch.sin(grain * uniform(8, 40, rng)) + 1) / 2
    picture = torch.lerp(colour(rng), colour(rng), uniform(0.2, 0.8, rng) * lines)
    if chance(0.6, rng):
        seam = torch.arange(SIDE) % (SIDE // int(uniform(2, 6, rng))) < 2
        picture = torch.where(seam.view(1, 1, -1), picture * uniform(0.3, 0.8, rng), picture)
    return picture


def _speckled(rng: torch.Generator) -> Tensor:
    cells = int(uniform(6, 90, rng))
    mixed = noise(SIDE, SIDE, (cells, cells), rng) + 0.4 * noise(SIDE, SIDE, (96, 96), rng) - 0.2
    if chance(0.4, rng):
        mixed = torch.sigmoid((mixed - 0.5) * uniform(4, 20, rng))
    return torch.lerp(colour(rng), colour(rng), mixed.clamp(0, 1))


def _woven(rng: torch.Generator) -> Tensor:
    across = torch.arange(SIDE) * (2 * math.pi * int(uniform(4, 60, rng)) / SIDE)
    down = torch.arange(SIDE) * (2 * math.pi * int(uniform(4, 60, rng)) / SIDE)
    waves = torch.sin(across).view(1, 1, -1) + (torch.sin(down).view(1, -1, 1) if chance(0.6, rng) else 0.0)
    hard = torch.sigmoid(waves * uniform(1, 10, rng))
    return torch.lerp(colour(rng), colour(rng), hard * uniform(0.3, 1, rng)).expand(3, SIDE, SIDE)


def _tiles(rng: torch.Generator) -> Tensor:
    size, gap = int(uniform(20, 90, rng)), int(uniform(1, 5, rng))
    cells = torch.arange(SIDE)
    is_gap = (cells % size < gap).view(1, 1, -1) | (cells % size < gap).view(1, -1, 1)
    tone = torch.rand((1, 1, SIDE // size + 1, SIDE // size + 1), generator=rng)
    tone = tone.repeat_interleave(size, 2).repeat_interleave(size, 3)[0, :, :SIDE, :SIDE]
    picture = torch.lerp(colour(rng), colour(rng), tone * uniform(0, 1, rng))
    return torch.where(is_gap, colour(rng), picture)


def _print(rng: torch.Generator) -> Tensor:
    picture = colour(rng).expand(3, SIDE, SIDE).clone()
    across, down = torch.arange(SIDE).view(1, 1, -1), torch.arange(SIDE).view(1, -1, 1)
    for _ in range(int(uniform(3, 14, rng))):
        cx, cy = uniform(0, SIDE, rng), uniform(0, SIDE, rng)
        w, h = uniform(8, 70, rng), uniform(8, 70, rng)
        dx, dy = (across - cx).abs() / w, (down - cy).abs() / h
        shape = (dx.square() + dy.square() < 1) if chance(0.5, rng) else (torch.maximum(dx, dy) < 1)
        picture = torch.where(shape, colour(rng), picture)
    return picture


_KINDS: Final[tuple[Callable[[torch.Generator], Tensor], ...]] = (
    _plain,
    _boards,
    _boards,
    _speckled,
    _speckled,
    _woven,
    _tiles,
    _print,
)


def draw_ground(side: int, rng: torch.Generator) -> tuple[Tensor, float]:
    """Returns a floor (3, side, side) in [0, 1], sometimes with a wall behind it, and the wall's height.

    The height is a share of the side, measured from the top. It is 0 if there is no wall.
    """
    texture = _KINDS[int(torch.randint(len(_KINDS), (), generator=rng))](rng)
    horizon = uniform(0.05, 0.5, rng) if chance(HORIZON_SHARE, rng) else 0.0
    angle, scale, far = uniform(0, 2 * math.pi, rng), uniform(0.3, 1.6, rng), uniform(0.25, 2.0, rng)
    down = torch.linspace(0, 1, side).view(-1, 1)
    across = torch.linspace(-0.5, 0.5, side).view(1, -1)
    depth = 1 / ((down - horizon).clamp_min(0.0) + far)
    u, v = (across * depth).expand(side, side), depth.expand(side, side)
    u, v = (
        scale * (math.cos(angle) * u - math.sin(angle) * v),
        scale * (math.sin(angle) * u + math.cos(angle) * v),
    )
    where = torch.stack([u % 1, v % 1], dim=-1)[None] * 2 - 1
    floor = F.grid_sample(texture[None].contiguous(), where, align_corners=False, padding_mode="reflection")[
        0
    ]
    if horizon:
        wall = torch.lerp(colour(rng), colour(rng), 0.4 * noise(side, side, (2, 3), rng))
        floor = torch.where((down < horizon).expand(side, side), wall, floor)
    return floor, horizon
