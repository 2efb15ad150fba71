"""Minifigures, put together from their parts."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.rendering.camera import Solid, box_of, framed, overlap
from tests.benchmarks.rendering.ldraw import SKIN, Floats, Library, Mesh, joined, reference_of

TORSO: Final = "973c01.dat"  # a plain torso with arms and hands
LEGS: Final = "3815c01.dat"
HEAD_Y: Final = -24.0  # where the head and what is on it stand, relative to the torso; y points down
LEGS_Y: Final = 32.0
SHOULDER: Final = (15.552, 9.0, 0.0)
LEAN: Final = ((0.985, 0.17, 0.0), (-0.17, 0.985, 0.0), (0.0, 0.0, 1.0))  # of the left arm
SIDE: Final = 128  # pixels in which arms are compared
STEPS_DEG: Final = (30.0, 15.0, 8.0, 4.0)

Arms = tuple[float, float]  # degrees by which the right and the left arm are turned up or down


def figure(library: Library, sku: str, arms: Arms = (0.0, 0.0)) -> Mesh:
    """Puts a figure together. The end of `sku` names torso, head, headwear and four colour codes."""
    torso, head, headwear, *codes = sku.split("-")[2:]
    torso_colour, legs_colour, headwear_colour, skin = map(int, codes[:4])
    up = np.array([0.0, HEAD_Y, 0.0])
    parts = [
        library.mesh(f"{torso}.dat").painted(torso_colour),
        library.mesh(f"{head}.dat").painted(skin).placed(up),
        library.mesh(f"{headwear}.dat").painted(headwear_colour).placed(up),
        library.mesh(LEGS).painted(legs_colour).placed(np.array([0.0, LEGS_Y, 0.0])),
    ]
    for line in library.files[TORSO].read_text().splitlines():
        words = line.split()
        if len(words) < 15 or words[0] != "1" or words[14] == "973.dat":
            continue
        place, name = reference_of(words)
        limb = library.mesh(name).placed(place[:3], place[3:].reshape(3, 3))
        limb = limb.painted(skin if words[1] == str(SKIN) else torso_colour)
        is_left = place[0] > 0
        parts.append(_turned(limb, arms[int(is_left)], is_left=bool(is_left)))
    return joined(parts).upright()


def _turned(limb: Mesh, degrees: float, *, is_left: bool) -> Mesh:
    """Turns an arm or its hand about the shoulder, around the arm's own axis."""
    side = np.array([1.0 if is_left else -1.0, 1.0, 1.0])
    lean = np.array(LEAN) * np.outer(side, side)
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])
    shoulder = np.array(SHOULDER) * side
    return limb.placed(-shoulder).placed(shoulder, lean @ about_x @ lean.T)


def find_arms(
    library: Library, sku: str, azimuth_deg: float, elevation_deg: float, mask: NDArray[np.bool_]
) -> Arms:
    """Returns the turns of the arms whose silhouette agrees best with the figure's mask (S, S)."""
    factor = len(mask) // SIDE
    small, box = mask[::factor, ::factor], box_of(mask)

    def score(arms: Sequence[float], distance: float) -> float:
        mesh = figure(library, sku, (arms[0], arms[1]))
        return overlap(Solid(mesh), framed(mesh, azimuth_deg, elevation_deg, distance, box), small)

    arms: Floats = np.zeros(2)
    distance = 6.0
    best = score(arms.tolist(), distance)
    for step in STEPS_DEG:
        for arm in (0, 1, 0, 1):
            for turn in (-2 * step, -step, step, 2 * step):
                tried = arms + turn * np.eye(2)[arm]
                found = score(tried.tolist(), distance)
                if found > best:
                    best, arms = found, tried
        for other in (0.85 * distance, 1.18 * distance):
            found = score(arms.tolist(), other)
            if found > best:
                best, distance = found, other
    return float(arms[0]), float(arms[1])
