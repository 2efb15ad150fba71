"""Steers the white balance of a picture by the colour that the catalog gives to the product.

The colours are CIELAB under D65, as in `toygan.conditions.colour`. A photo does not show the exact colour of
the catalog: the studio's light makes it brighter and paler. `StudioLight` learns by how much.
"""

from typing import Final

import torch
from torch import Tensor, nn

NEAR: Final = 25.0  # distance in a* and b* from the steered colour at which a pixel's weight is 1/e
SAME: Final = 20.0  # distance in a* and b* within which pixels have the same colour
# a colour with a smaller share of the product's pixels does not count as one of its colours
LEAST_SHARE: Final = 0.15
# largest distance in a* and b* by which light may shift the colour of a product of one colour
FARTHEST: Final = 60.0
# the same for a product of several colours, where a nearby colour may belong to another part
FARTHEST_OF_SEVERAL: Final = 30.0
CELL: Final = 4.0  # pixels are counted in square cells of a* and b* with this side
MOST_GAIN: Final = 2.0

_TO_XYZ: Final = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
_WHITE: Final = (0.9505, 1.0, 1.0890)
_KNEE: Final = 6 / 29
_HALF: Final = 32  # number of cells on either side of 0; in sRGB, a* and b* lie within -108..108


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """Maps sRGB (N, 3) in [0, 1] to CIELAB (N, 3)."""
    rgb = rgb.clamp(0, 1)
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055).pow(2.4))
    xyz = linear @ rgb.new_tensor(_TO_XYZ).T / rgb.new_tensor(_WHITE)
    root = torch.where(xyz > _KNEE**3, xyz.clamp_min(1e-8).pow(1 / 3), xyz / (3 * _KNEE**2) + 4 / 29)
    x, y, z = root.unbind(dim=1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """The inverse of `rgb_to_lab`, clamped to [0, 1]."""
    light, a, b = lab.unbind(dim=1)
    y = (light + 16) / 116
    root = torch.stack([y + a / 500, y, y - b / 200], dim=1)
    xyz = torch.where(root > _KNEE, root.pow(3), 3 * _KNEE**2 * (root - 4 / 29))
    linear = (xyz * lab.new_tensor(_WHITE)) @ torch.linalg.inv(lab.new_tensor(_TO_XYZ)).T
    linear = linear.clamp(0, 1)
    curved = 1.055 * linear.clamp_min(1e-8).pow(1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, curved)


class StudioLight(nn.Module):
    """Maps colours of the catalog to colours in the studio's photos, linearly in CIELAB."""

    # (4, 3) float32: maps (L*, a*, b*, 1) of a catalog colour to the L*, a*, b* that a photo of it shows.
    matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.eye(4, 3))

    def fit(self, given: Tensor, shown: Tensor) -> None:
        """Fits the map to catalog colours and to the median colours of their products in photos, (N, 3)
        CIELAB each.
        """
        known = torch.cat([given, torch.ones(len(given), 1)], dim=1).double()
        # With few photos the ridge keeps the map near the identity.
        ridge = torch.eye(4, dtype=torch.float64) * len(given) * torch.tensor([0.3, 0.3, 0.3, 1e-4])
        start = torch.eye(4, 3, dtype=torch.float64)
        left = known.T @ known + ridge
        self.matrix.copy_(torch.linalg.solve(left, known.T @ shown.double() + ridge @ start).float())

    def steer(self, picture: Tensor, mask: Tensor, colour: Tensor) -> Tensor:
        """Changes the product's colours so that its main colour is the one that a studio photo of it would
        show.

        `picture` is (3, H, W) in [-1, 1], `mask` is (1, H, W) in [0, 1], and `colour` (4,) is encoded by
        `toygan.conditions.colour`. A pixel changes less if its colour is farther from the steered colour, so
        prints change little. If the product has several colours, the one nearest to the catalog's colour is
        steered. A product without a colour near the catalog's colour stays unchanged.
        """
        inside = (mask[0] > 0.9).flatten()
        if not colour[3] or not inside.any():
            return picture
        wanted = torch.cat([(colour[:1] + 1) * 50, colour[1:3] * 50, colour.new_ones(1)]) @ self.matrix
        pixels = ((picture + 1) / 2).clamp(0, 1)
        flat = pixels.flatten(1).T
        lab = rgb_to_lab(flat)
        centres = _colours_of(lab[inside, 1:])
        if not len(centres):
            return picture
        away = (centres - wanted[1:]).norm(dim=1)
        if away.min() > (FARTHEST if len(centres) == 1 else FARTHEST_OF_SEVERAL):
            return picture
        distance = (lab[:, 1:] - centres[away.argmin()]).norm(dim=1)
        main = flat[inside & (distance < SAME)].median(dim=0).values
        if len(centres) > 1:  # other parts may have the same hue and differ only in brightness
            distance = distance.hypot((lab[:, 0] - rgb_to_lab(main[None])[0, 0]) / 2)
        gain = ((lab_to_rgb(wanted[None])[0] + 0.02) / (main + 0.02)).clamp(1 / MOST_GAIN, MOST_GAIN)
        weight = torch.exp(-((distance / NEAR) ** 2)).view(1, *mask.shape[1:])
        factor = 1 + weight * (gain.view(3, 1, 1) - 1)
        return (pixels * factor).clamp(0, 1) * 2 - 1


def _colours_of(pixels: Tensor) -> Tensor:
    """Returns the a* and b* (K, 2) of each colour of a product, for the a* and b* (N, 2) of its pixels.

    The first colour has the most pixels within SAME of it, the next has the most of the other pixels, down to
    LEAST_SHARE of all pixels.
    """
    least = LEAST_SHARE * len(pixels)
    found: list[Tensor] = []
    while len(pixels) >= least:
        places = (pixels / CELL).round().long().clamp(-_HALF, _HALF - 1) + _HALF
        counts = (places @ places.new_tensor([2 * _HALF, 1])).bincount()
        filled = counts.nonzero()[:, 0]
        cells = CELL * (torch.stack([filled // (2 * _HALF), filled % (2 * _HALF)], dim=1) - _HALF).float()
        near = (torch.cdist(cells, cells) < SAME).float() @ counts[filled].float()
        inside = (pixels - cells[near.argmax()]).norm(dim=1) < SAME
        if inside.sum() < least:
            break
        found.append(pixels[inside].median(dim=0).values)
        pixels = pixels[~inside]
    return torch.stack(found) if found else pixels.new_zeros(0, 2)
