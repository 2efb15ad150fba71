"""Reads parts of the LDraw Parts Library as triangles.

The format: https://www.ldraw.org/article/218.html. Lengths are LDraw units of 0.4 mm. LDraw's y axis points
down; meshes that leave this module have it up, and the front of a product points to positive z.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

INHERITED: Final = 16  # the colour code of a triangle that has the colour of the whole part
SKIN: Final = 14  # the colour code of hands in complete torsos
FOLDERS: Final = {"p/48": "48/", "p": "", "parts/s": "s/", "parts": ""}  # with the prefix of their names
SMALLEST_AREA: Final = 1e-6  # square units; smaller triangles have no direction
CREASE_DEG: Final = 35.0  # faces with a smaller angle between them belong to one round surface
MOST_AT_A_CORNER: Final = 40  # faces at one corner whose normals are averaged, at most


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """N triangles with the code of their colour."""

    corners: Floats  # (N, 3, 3): triangle, corner, x y z
    colours: NDArray[np.int64]  # (N,)

    def placed(self, shift: Floats, turn: Floats | None = None) -> "Mesh":
        """Turns the mesh by a matrix (3, 3), then moves it by (3,)."""
        turned = self.corners if turn is None else self.corners @ turn.T
        return Mesh(corners=turned + shift, colours=self.colours)

    def painted(self, colour: int) -> "Mesh":
        """Gives triangles without a colour of their own the code `colour`."""
        return Mesh(corners=self.corners, colours=np.where(self.colours == INHERITED, colour, self.colours))

    def upright(self) -> "Mesh":
        """Turns y up and the front to positive z, and drops triangles without an area."""
        corners = self.corners * np.array([1.0, -1.0, -1.0])
        edges = corners[:, 1:] - corners[:, :1]
        kept = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1) > SMALLEST_AREA
        return Mesh(corners=corners[kept], colours=self.colours[kept])


def joined(meshes: Sequence[Mesh]) -> Mesh:
    return Mesh(
        corners=np.concatenate([each.corners for each in meshes]),
        colours=np.concatenate([each.colours for each in meshes]),
    )


class Library:
    """The parts and colours below the library's folder, which holds `parts`, `p` and `LDConfig.ldr`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, Mesh] = {}

    @cached_property
    def files(self) -> dict[str, Path]:
        """Maps lower-case names, as references write them, to files."""
        return {
            prefix + file.name.lower(): file
            for folder, prefix in FOLDERS.items()
            for file in (self._folder / folder).glob("*.dat")
        }

    @cached_property
    def rgb(self) -> dict[int, tuple[int, int, int]]:
        """Maps colour codes to sRGB values, 0..255."""
        text = (self._folder / "LDConfig.ldr").read_text(errors="replace")
        found = re.findall(r"^0 !COLOUR \S+\s+CODE\s+(\d+)\s+VALUE\s+#(\w{6})", text, re.MULTILINE)
        return {int(code): (int(v[:2], 16), int(v[2:4], 16), int(v[4:], 16)) for code, v in found}

    def mesh(self, name: str) -> Mesh:
        """Reads a file and all files that it refers to, in LDraw's axes.

        Raises KeyError for an unknown name. References to unknown files are left out.
        """
        name = name.lower().replace("\\", "/")
        if name not in self._read:
            self._read[name] = self._of(self.files[name])
        return self._read[name]

    def _of(self, file: Path) -> Mesh:
        triangles: list[Floats] = []
        colours: list[int] = []
        parts: list[Mesh] = []
        for line in file.read_text(errors="replace").splitlines():
            words = line.split()
            if not words or words[0] not in "134":
                continue
            colour = int(words[1], 0)
            if words[0] == "1":
                place, reference = reference_of(words)
                if reference in self.files:
                    part = self.mesh(reference).placed(place[:3], place[3:].reshape(3, 3))
                    parts.append(part.painted(colour))
                continue
            corners = np.array([float(word) for word in words[2 : 11 if words[0] == "3" else 14]])
            corners = corners.reshape(-1, 3)
            for step in range(len(corners) - 2):
                triangles.append(corners[[0, step + 1, step + 2]])
                colours.append(colour)
        own = Mesh(
            corners=np.array(triangles).reshape(-1, 3, 3),
            colours=np.array(colours, dtype=np.int64).reshape(-1),
        )
        return joined([own, *parts])


def reference_of(words: Sequence[str]) -> tuple[Floats, str]:
    """Returns shift and matrix (12,) of a line of type 1, and the name of the file it refers to."""
    return np.array([float(word) for word in words[2:14]]), " ".join(words[14:]).lower().replace("\\", "/")


def corner_normals(mesh: Mesh) -> Floats:
    """Returns normals (N, 3, 3) of the corners: the mean over faces that meet there without a crease."""
    corners = mesh.corners
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    faces /= np.linalg.norm(faces, axis=1, keepdims=True)
    _, place = np.unique(np.round(corners.reshape(-1, 3), 2), axis=0, return_inverse=True)
    order = np.argsort(place.reshape(-1), kind="stable")
    sorted_place = place.reshape(-1)[order]
    first = np.searchsorted(sorted_place, sorted_place, side="left")
    count = np.searchsorted(sorted_place, sorted_place, side="right") - first
    own = faces[order // 3]
    total = np.zeros_like(own)
    for step in range(min(int(count.max()), MOST_AT_A_CORNER)):
        other = faces[order[np.minimum(first + step, len(order) - 1)] // 3]
        cosine = (own * other).sum(axis=1)
        # The order of corners is not reliable in all parts, so a face may point inwards.
        smooth = (step < count) & (np.abs(cosine) > np.cos(np.radians(CREASE_DEG)))
        total += np.where(smooth[:, None], other * np.sign(cosine)[:, None], 0.0)
    normals = np.empty_like(total)
    normals[order] = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-9)
    return normals.reshape(-1, 3, 3)
