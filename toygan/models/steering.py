"""Changes the product's main colour in a picture to what a studio photo of the catalog's colour would show.

Other colours of the product change little, and the ground does not change. The colours are CIELAB under D65,
as in `toygan.conditions.colour`. Needs numpy alone, since an exported studio takes this file along.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SAME: Final = 20.0  # distance in a* and b* within which pixels have the same colour
# a colour with a smaller share of the product's pixels does not count as one of its colours
LEAST_SHARE: Final = 0.15
# a product counts as one of a single colour if that colour has at least this share of its pixels
SINGLE_SHARE: Final = 0.9
# Distance from the steered colour at which a pixel's weight is 1/e. For a single colour it is measured in a*
# and b*, for several colours in L* / 2, a* and b*.
NEAR: Final = 25.0
NEAR_OF_SEVERAL: Final = 15.0
# Largest distance of the steered colour from the wanted one. For a single colour it is measured in a* and b*,
# for several colours in L*, a* and b*: a colour that is farther away belongs to another part. On 60 training
# snapshots of products of several colours, steering by these limits lowers the mean error of all pixels
# (CIE76) from 10.9 to 10.5.
FARTHEST: Final = 40.0
FARTHEST_OF_SEVERAL: Final = 15.0
CELL: Final = 4.0  # pixels are counted in square cells of a* and b* with this side
MOST_GAIN: Final = 2.0

_TO_XYZ: Final = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], dtype=np.float32
)
_WHITE: Final = np.array([0.9505, 1.0, 1.0890], dtype=np.float32)
_KNEE: Final = 6 / 29
_HALF: Final = 32  # number of cells on either side of 0; in sRGB, a* and b* lie within -108..108
_REACH: Final = int(SAME / CELL)  # cells


def rgb_to_lab(rgb: Floats) -> Floats:
    """Maps sRGB (N, 3) in [0, 1] to CIELAB (N, 3)."""
    rgb = np.clip(rgb, 0, 1)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    root = np.where(xyz > _KNEE**3, np.cbrt(xyz), xyz / (3 * _KNEE**2) + 4 / 29)
    x, y, z = root.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def lab_to_rgb(lab: Floats) -> Floats:
    """The inverse of `rgb_to_lab`, clamped to [0, 1]."""
    light, a, b = lab.T
    y = (light + 16) / 116
    root = np.stack([y + a / 500, y, y - b / 200], axis=1)
    xyz = np.where(root > _KNEE, root**3, 3 * _KNEE**2 * (root - 4 / 29))
    linear = np.clip((xyz * _WHITE) @ np.linalg.inv(_TO_XYZ).T, 0, 1)
    curved = 1.055 * linear ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, 12.92 * linear, curved)


def terms(lab: Floats) -> Floats:
    """Returns (N, 10) of CIELAB (N, 3): the values, 1, and their products in pairs, divided by 100."""
    light, a, b = lab.T
    pairs = (light * light, a * a, b * b, light * a, light * b, a * b)
    return np.stack([light, a, b, np.ones_like(light), *(pair / 100 for pair in pairs)], axis=1)


def steer(picture: Floats, mask: Floats, colour: Floats, light: Floats) -> Floats:
    """Changes the product's colours so that its main colour is the one that a studio photo of it would show.

    `picture` is (3, H, W) in [-1, 1], `mask` is (H, W) in [0, 1], and `colour` (4,) is encoded by
    `toygan.conditions.colour`. `light` (10, 3) maps the `terms` of a catalog colour to the L*, a*, b* that a
    photo of it shows. A pixel changes less if its colour is farther from the steered colour, so prints
    change little. If the product has several colours, the one nearest to the wanted colour is steered. A
    product without a colour near the wanted one stays unchanged, and so do pixels where the mask is 0.
    """
    shown = mask > 0
    inside = mask[shown] > 0.9
    if not colour[3] or not inside.any():
        return picture
    lightness, a, b = (50 * colour[:3]).tolist()
    wanted = terms(np.array([[lightness + 50, a, b]], dtype=np.float32))[0] @ light
    pixels: Floats = np.clip((picture[:, shown].T + 1) / 2, 0, 1).astype(np.float32, copy=False)
    lab = rgb_to_lab(pixels)
    centres = _colours_of(lab[inside, 1:])
    if not len(centres):
        return picture
    distances = [np.linalg.norm(lab[:, 1:] - centre, axis=1) for centre in centres]
    is_single = len(centres) == 1 and (distances[0][inside] < SAME).mean() >= SINGLE_SHARE
    colours = np.stack([_median(pixels[inside & (distance < SAME)]) for distance in distances])
    labs = rgb_to_lab(colours)
    counted = [1, 2] if is_single else [0, 1, 2]
    away = np.linalg.norm((labs - wanted)[:, counted], axis=1)
    chosen = away.argmin()
    if away[chosen] > (FARTHEST if is_single else FARTHEST_OF_SEVERAL):
        return picture
    distance = distances[chosen]
    if not is_single:  # other parts may have the same hue and differ only in brightness
        distance = np.hypot(distance, (lab[:, 0] - labs[chosen, 0]) / 2)
    gain = (lab_to_rgb(wanted[None])[0] + 0.02) / (colours[chosen] + 0.02)
    gain = np.clip(gain, 1 / MOST_GAIN, MOST_GAIN)
    weight = np.exp(-((distance / (NEAR if is_single else NEAR_OF_SEVERAL)) ** 2))
    steered = picture.copy()
    steered[:, shown] = np.clip(pixels * (1 + weight[:, None] * (gain - 1)), 0, 1).T * 2 - 1
    return steered


def _median(values: Floats) -> Floats:
    """The lower median of each column of (N, K)."""
    middle = (len(values) - 1) // 2
    found: Floats = np.partition(values, middle, axis=0)[middle]
    return found


def _colours_of(pixels: Floats) -> Floats:
    """Returns the a* and b* (K, 2) of each colour of a product, for the a* and b* (N, 2) of its pixels.

    The first colour has the most pixels within SAME of it, the next has the most of the other pixels, down to
    LEAST_SHARE of all pixels.
    """
    least = LEAST_SHARE * len(pixels)
    found: list[Floats] = []
    while len(pixels) >= least:
        places = np.clip(np.rint(pixels / CELL).astype(np.int64), -_HALF, _HALF - 1) + _HALF
        counts = np.bincount(places @ [2 * _HALF, 1], minlength=(2 * _HALF) ** 2).reshape(2 * _HALF, -1)
        fullest = np.where(counts > 0, _nearby(counts), 0).argmax()
        centre = CELL * (np.array(np.divmod(fullest, 2 * _HALF)) - _HALF)
        inside = np.linalg.norm(pixels - centre, axis=1) < SAME
        if inside.sum() < least:
            break
        found.append(_median(pixels[inside]))
        pixels = pixels[~inside]
    return np.stack(found) if found else np.zeros((0, 2), dtype=np.float32)


def _nearby(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each cell, the pixels in all cells within SAME of it."""
    padded = np.pad(counts, _REACH)
    rows, columns = counts.shape
    near = range(-_REACH, _REACH + 1)
    found: NDArray[np.int64] = np.sum(
        [
            padded[_REACH + down : _REACH + down + rows, _REACH + right : _REACH + right + columns]
            for down in near
            for right in near
            if CELL * np.hypot(down, right) < SAME
        ],
        axis=0,
    )
    return found
