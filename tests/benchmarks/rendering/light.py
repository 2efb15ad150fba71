"""Precomputed light of a product that stands on a ground (Sloan et al. 2002).

Light comes from the upper half of the sphere. The matt ground and the product itself reflect it, and the
product shows gloss. The sphere is divided into cells of equal area. For each pixel, the share of each cell's
light that it reflects is computed once. A picture in another room is then one product of matrices. All
colours are linear RGB; y points up.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from tests.benchmarks.rendering.camera import Camera, Solid, extent
from tests.benchmarks.rendering.ldraw import Floats, Mesh, corner_normals

Floats32 = NDArray[np.float32]

CELLS: Final = 96
# Rays are this far from the middles of their cells (standard deviation). It makes the edges of shadows soft.
JITTER: Final = 0.13
VARIANTS: Final = 64
FINE: Final = 6144  # directions of the lights that are seen in gloss
# The solid angle of a cell, divided by pi: a matt white surface reflects 1 / pi of its light to each side.
SOLID_ANGLE: Final = 4.0 / CELLS
WINDOW: Final = 1.5  # the side of the rendered square by that of the photo's frame
SIDE: Final = 256  # pixels of the photo's frame
OVERSAMPLED: Final = 2  # rays for each pixel and direction
GROUND_CELLS: Final = 48  # a side: the ground around the product, as the product sees it
GROUND_REACH: Final = 2.6  # of that ground to each side, in radii of the product
ROUGHNESS: Final = 0.05  # standard deviation of the directions of gloss
FRESNEL: Final = 0.04  # share of the light that plastic reflects towards the viewer as gloss (Schlick 1994)
# Light that was reflected twice within the product, as a share of its mean light.
WITHIN: Final = 0.8
AT_ONCE: Final = 8192  # pixels, to limit memory
MOST_GLOSS: Final = 6.0  # brightest gloss by the product's own light; a lamp itself would be far brighter


def _sphere(count: int) -> Floats32:
    """Returns evenly spread directions (count, 3), a Fibonacci spiral from the top."""
    place = np.arange(count) + 0.5
    y = 1 - 2 * place / count
    radius, angle = np.sqrt(1 - y * y), np.pi * (1 + 5**0.5) * place
    return np.stack([np.cos(angle) * radius, y, np.sin(angle) * radius], axis=1).astype(np.float32)


DIRECTIONS: Final = _sphere(CELLS)
FINE_DIRECTIONS: Final = _sphere(FINE)
_NEAREST_FINE: Final = cKDTree(FINE_DIRECTIONS)
_CELL_OF_FINE: Final = (FINE_DIRECTIONS @ DIRECTIONS.T).argmax(axis=1)


def _jittered() -> Floats32:
    noise = np.random.default_rng(0).normal(0, JITTER, (VARIANTS, CELLS, 3))
    found = DIRECTIONS + noise
    rays: Floats32 = (found / np.linalg.norm(found, axis=2, keepdims=True)).astype(np.float32)
    return rays


_RAYS: Final = _jittered()


@dataclass(frozen=True, kw_only=True)
class Surface:
    """How a product reflects light."""

    gloss: float = 1.0  # 1: plastic, 0: rubber
    metal: float = 0.0  # share of the light that is reflected as by a metal of the product's colour


@dataclass(frozen=True, kw_only=True)
class Gloss:
    """What is mirrored in each of N pixels of the product."""

    light: NDArray[np.int64]  # (N,) index into `FINE_DIRECTIONS`; -1 where no light is seen
    ground: NDArray[np.int64]  # (N,) cell of the ground; -1 where no ground is seen
    facing: Floats32  # (N,) 0..1, cosine of the angle between the surface's normal and the viewer


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """The light of a product, in a window of `WINDOW` frames, and of the ground.

    Light of cells means the radiance from each of `CELLS` directions.
    """

    shown: NDArray[np.bool_]  # (S, S): pixels, oversampled, that show the product; N of them
    albedo: Floats32  # (N, 3)
    direct: Floats32  # (N, CELLS): share of the cells' light
    by_ground: Floats32  # (N, CELLS): the same for light that white ground reflects
    hidden: Floats32  # (N,): share of the directions in which the product sees itself
    gloss: Gloss
    ground: Floats32  # (G * G, CELLS): light of the ground, as the camera sees it
    around: Floats32  # (GROUND_CELLS ** 2, CELLS): light of the ground around the product

    def lit(self, light: Floats32, ground: Floats32, surface: Surface) -> tuple[Floats32, Floats32]:
        """Shows the product in the light (FINE, 3) of a room, on a ground of the mean colour (3,).

        Returns the product (H, H, 4), premultiplied with its coverage, and the light on the ground (G, G, 3).
        """
        counts = np.bincount(_CELL_OF_FINE, minlength=CELLS)
        cells = np.stack([np.bincount(_CELL_OF_FINE, each, CELLS) / counts for each in light.T], axis=1)
        cells = cells.astype(np.float32)
        on_ground, around = self.ground @ cells, self.around @ cells
        received = self.direct @ cells + (self.by_ground @ cells) * ground
        within = WITHIN * received.mean(axis=0) * self.albedo.mean(axis=0)
        received = received + self.hidden[:, None] * within
        mirrored = np.where((self.gloss.light >= 0)[:, None], light[self.gloss.light], within)
        by_ground = (self.gloss.ground >= 0)[:, None]
        mirrored = np.where(by_ground, around[self.gloss.ground] * ground, mirrored)
        share = surface.gloss * (FRESNEL + (1 - FRESNEL) * (1 - self.gloss.facing) ** 5)[:, None]
        share = share + (1 - share) * surface.metal * self.albedo
        colour = (1 - surface.metal) * received * self.albedo + share * mirrored
        brightest = MOST_GLOSS * max(1e-3, float(np.percentile(received, 90)))
        layers = np.zeros((*self.shown.shape, 4), np.float32)
        layers[self.shown] = np.concatenate(
            [np.minimum(colour, brightest), np.ones((len(colour), 1), np.float32)], axis=1
        )
        side = len(layers) // OVERSAMPLED
        pixels: Floats32 = layers.reshape(side, OVERSAMPLED, side, OVERSAMPLED, 4).mean(axis=(1, 3))
        ground_side = round(len(on_ground) ** 0.5)
        return pixels, np.asarray(on_ground, dtype=np.float32).reshape(ground_side, ground_side, 3)


@dataclass(frozen=True, kw_only=True)
class _Points:
    """N points of the product that the camera sees."""

    places: Floats  # (N, 3), a little above the surface
    normals: Floats32  # (N, 3) of the smooth surface
    faces: Floats32  # (N, 3) normals of the flat triangles
    views: Floats32  # (N, 3) from the camera


@dataclass(frozen=True, kw_only=True)
class _Ground:
    """The plane on which the product stands."""

    height: float
    centre: Floats  # (3,)
    reach: float

    def cells(self, places: Floats, directions: Floats32) -> NDArray[np.int64]:
        """Returns the cells that rays downwards hit; the outermost cells stand for all ground beyond."""
        length = (self.height - places[:, 1]) / np.minimum(directions[:, 1], -1e-3)
        hit = places + directions * length[:, None]
        steps = (hit - self.centre + self.reach) / (2 * self.reach) * (GROUND_CELLS - 1)
        cell = np.clip(np.round(steps), 0, GROUND_CELLS - 1).astype(np.int64)
        return cell[:, 2] * GROUND_CELLS + cell[:, 0]

    def grid(self) -> Floats:
        """Returns the middles of the cells, (GROUND_CELLS ** 2, 3)."""
        steps = np.linspace(-self.reach, self.reach, GROUND_CELLS)
        across, along = np.meshgrid(self.centre[0] + steps, self.centre[2] + steps)
        return np.stack([across, np.full_like(across, self.height), along], axis=-1).reshape(-1, 3)


def transfer(
    mesh: Mesh, solid: Solid, camera: Camera, rgb: dict[int, tuple[int, int, int]], rng: np.random.Generator
) -> Transfer:
    """Computes the light of a product. `rgb` maps colour codes to sRGB values in 0..255."""
    side = int(SIDE * WINDOW) * OVERSAMPLED
    origins, directions = camera.rays(side, WINDOW)
    found = solid.hits(origins, directions)
    shown = found["primID"] >= 0
    triangle = found["primID"][shown]
    centre, radius = extent(mesh)
    above = 1e-3 * radius
    seen_points = {name: each[shown] for name, each in found.items()}
    points = _points(mesh, seen_points, origins[shown], directions[shown], above)
    height = float(mesh.corners[..., 1].min()) + above
    ground = _Ground(
        height=height, centre=np.array([centre[0], height, centre[2]]), reach=GROUND_REACH * radius
    )
    around = _on_ground(solid, ground.grid(), rng)
    seen_from, towards = camera.rays(side // OVERSAMPLED // 2, WINDOW)
    down = np.minimum(towards[:, 1], -1e-3)
    seen = seen_from + towards * ((height - seen_from[:, 1]) / down)[:, None]
    direct, by_ground, hidden = _received(solid, points, ground, around, rng)
    codes, which = np.unique(mesh.colours[triangle], return_inverse=True)
    table = np.array([rgb.get(int(code), (127, 127, 127)) for code in codes]).reshape(-1, 3) / 255
    return Transfer(
        shown=shown.reshape(side, side),
        albedo=to_linear(table)[which],
        direct=direct,
        by_ground=by_ground,
        hidden=hidden,
        gloss=_gloss(solid, points, ground, rng),
        ground=_on_ground(solid, seen, rng),
        around=around,
    )


def _points(
    mesh: Mesh, found: dict[str, NDArray[np.float32]], origins: Floats32, views: Floats32, above: float
) -> _Points:
    """Returns the points that rays found, moved away from the surface by `above`."""
    triangle = found["primID"].astype(np.int64)
    u, v = found["u"][:, None], found["v"][:, None]
    at_corners = corner_normals(mesh)[triangle]
    normals = (1 - u - v) * at_corners[:, 0] + u * at_corners[:, 1] + v * at_corners[:, 2]
    corners = mesh.corners[triangle]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    faces /= np.linalg.norm(faces, axis=1, keepdims=True)
    faces *= -np.sign((faces * views).sum(axis=1, keepdims=True))
    normals *= np.sign((normals * faces).sum(axis=1, keepdims=True))
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    return _Points(
        places=origins + views * found["tfar"][:, None] + above * faces,
        normals=normals.astype(np.float32),
        faces=faces.astype(np.float32),
        views=views,
    )


def _on_ground(solid: Solid, places: Floats, rng: np.random.Generator) -> Floats32:
    """Returns the share of the cells' light that white ground reflects at N places, (N, CELLS)."""
    up = DIRECTIONS[:, 1] > 0
    rays = _RAYS[rng.integers(VARIANTS, size=len(places))][:, up]
    rays[..., 1] = np.abs(rays[..., 1])
    count = rays.shape[1]
    hidden = solid.hides(np.repeat(places, count, axis=0), rays.reshape(-1, 3)).reshape(-1, count)
    shares = np.zeros((len(places), CELLS), np.float32)
    shares[:, up] = np.where(hidden, 0, SOLID_ANGLE * rays[..., 1])
    return shares


def _received(
    solid: Solid, points: _Points, ground: _Ground, around: Floats32, rng: np.random.Generator
) -> tuple[Floats32, Floats32, Floats32]:
    """Returns `direct`, `by_ground` and `hidden` of `Transfer`."""
    count = len(points.places)
    direct, by_ground = (np.zeros((count, CELLS), np.float32) for _ in range(2))
    hidden = np.zeros(count, np.float32)
    for start in range(0, count, AT_ONCE):
        part = slice(start, min(count, start + AT_ONCE))
        rays = _RAYS[rng.integers(VARIANTS, size=part.stop - start)]
        cosines = np.einsum("pck,pk->pc", rays, points.normals[part])
        # A smooth surface is approximated by flat triangles, which hide what is below them.
        cosines *= np.einsum("pck,pk->pc", rays, points.faces[part]) > 0
        pixel, cell = np.nonzero(cosines > 0)
        places, directions = points.places[part][pixel], rays[pixel, cell]
        shares = SOLID_ANGLE * cosines[pixel, cell]
        is_hidden = solid.hides(places, directions)
        np.add.at(hidden, start + pixel[is_hidden], shares[is_hidden])
        lit = ~is_hidden & (directions[:, 1] > 0)
        direct[start + pixel[lit], cell[lit]] = shares[lit]
        down = ~is_hidden & (directions[:, 1] <= 0)
        cells = ground.cells(places[down], directions[down])
        seen = csr_matrix((shares[down], (pixel[down], cells)), shape=(part.stop - start, GROUND_CELLS**2))
        by_ground[part] = seen @ around
    return direct, by_ground, hidden


def _gloss(solid: Solid, points: _Points, ground: _Ground, rng: np.random.Generator) -> Gloss:
    towards = (points.views * points.normals).sum(axis=1, keepdims=True)
    mirrored = points.views - 2 * towards * points.normals + rng.normal(0, ROUGHNESS, points.views.shape)
    mirrored = (mirrored / np.linalg.norm(mirrored, axis=1, keepdims=True)).astype(np.float32)
    free = ~solid.hides(points.places, mirrored) & ((mirrored * points.faces).sum(axis=1) > 0)
    up = mirrored[:, 1] > 0
    nearest = _NEAREST_FINE.query(mirrored)[1].astype(np.int64)
    return Gloss(
        light=np.where(free & up, nearest, -1),
        ground=np.where(free & ~up, ground.cells(points.places, mirrored), -1),
        facing=np.clip(-towards[:, 0], 0, 1).astype(np.float32),
    )


def draw_room(rng: np.random.Generator) -> Floats32:
    """Returns the light (FINE, 3) of a random room: walls, ceiling, up to two windows and two lamps."""
    height = FINE_DIRECTIONS[:, 1]
    azimuth = np.arctan2(FINE_DIRECTIONS[:, 2], FINE_DIRECTIONS[:, 0])

    def tone(strength: float) -> Floats:
        tint = 1 + strength * rng.normal(0, 1, 3)
        return np.asarray(rng.uniform(0.5, 1) * tint.clip(0.3, 1.7))

    warm, cold = np.array([1.2, 1.0, 0.75]), np.array([0.85, 1.0, 1.2])

    def source(is_warm: bool) -> Floats:
        return np.asarray((warm if is_warm else cold) ** rng.uniform(0, 1))

    ceiling, bright = tone(0.06), tone(0.12) * rng.uniform(0.2, 0.9)
    dark = tone(0.1) * rng.uniform(0.05, 0.5)
    side = (0.5 + 0.5 * np.cos(azimuth - rng.uniform(-np.pi, np.pi)))[:, None]
    above = np.clip(height, 0, 1)[:, None] ** rng.uniform(0.5, 2)
    light = rng.uniform(0.1, 1) * (above * ceiling + (1 - above) * (side * bright + (1 - side) * dark))
    for _ in range(rng.integers(0, 3)):
        middle, width, low = rng.uniform(-np.pi, np.pi), rng.uniform(0.15, 0.7), rng.uniform(0.1, 0.5)
        off = np.abs((azimuth - middle + np.pi) % (2 * np.pi) - np.pi)
        window = (off < width) & (height > low) & (height < low + rng.uniform(0.2, 0.6))
        light[window] = rng.uniform(3, 14) * source(rng.random() > 0.6)
    for _ in range(rng.integers(0, 3)):
        towards = rng.normal(0, 1, 3)
        towards[1] = abs(towards[1]) + 0.35
        towards /= np.linalg.norm(towards)
        size = rng.uniform(0.12, 0.45)
        lamp = FINE_DIRECTIONS @ towards > np.cos(size)
        light[lamp] = 0.5 * rng.uniform(4, 60) * (0.25 / size) ** 2 * source(rng.random() < 0.6)
    light[height <= 0] = 0
    return light.astype(np.float32)


def to_linear(values: NDArray[np.floating]) -> Floats32:
    """Maps sRGB in 0..1 to linear RGB."""
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear, dtype=np.float32)


def to_srgb(values: NDArray[np.floating]) -> Floats32:
    """Maps linear RGB, at least 0, to sRGB; values above 1 stay above 1."""
    clipped = np.clip(values, 0, None)
    curved = np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)
    return np.asarray(curved, dtype=np.float32)
