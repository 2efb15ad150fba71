"""The camera of a photo, found from its view and the silhouette of its product."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

from tests.benchmarks.rendering.ldraw import Floats, Mesh

SIDE: Final = 256  # pixels in which silhouettes are compared
# distances of the camera from the product's middle that are tried, in radii of the product
DISTANCES: Final = (3, 3.5, 4, 4.5, 5, 5.5, 6, 6.5, 7, 8, 9.5, 12)
BETWEEN: Final = 7  # distances that are tried between the best one's neighbours

Box = tuple[float, float, float, float]  # left, right, bottom, top; the picture reaches from -1 to 1


class Solid:
    """A mesh that rays can hit (Embree)."""

    def __init__(self, mesh: Mesh) -> None:
        self._scene: Any = EmbreeScene()
        TriangleMesh(self._scene, mesh.corners.astype(np.float32))

    def hides(self, origins: NDArray[Any], directions: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether each of N rays hits the solid."""
        hit: NDArray[np.bool_] = self._run(origins, directions, query="OCCLUDED") >= 0
        return hit

    def hits(self, origins: NDArray[Any], directions: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Returns `primID` (-1 without a hit), `tfar`, `u` and `v` of the first hit of each ray."""
        found: dict[str, NDArray[Any]] = self._run(origins, directions, query="INTERSECT", output=True)
        return found

    def _run(self, origins: NDArray[Any], directions: NDArray[Any], **options: Any) -> Any:
        rays = (np.ascontiguousarray(each, dtype=np.float32) for each in (origins, directions))
        return self._scene.run(*rays, **options)


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera. Its picture may be shifted, as by a lens that is not in the middle."""

    axes: Floats  # (3, 3): right, up, back
    eye: Floats  # (3,)
    zoom: float  # half pictures for each unit of x / depth
    shift: tuple[float, float]  # half pictures to the right and up

    def rays(self, side: int, reach: float = 1.0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns origins and directions (side * side, 3) of the rays through a square picture.

        The picture reaches from -`reach` to `reach`, so 1 is the photo's own frame.
        """
        steps = reach * (2 * (np.arange(side) + 0.5) / side - 1)
        right = ((steps - self.shift[0]) / self.zoom)[None, :, None]
        up = ((-steps - self.shift[1]) / self.zoom)[:, None, None]
        directions = right * self.axes[0] + up * self.axes[1] - self.axes[2]
        directions = (directions / np.linalg.norm(directions, axis=-1, keepdims=True)).reshape(-1, 3)
        origins = np.broadcast_to(self.eye, directions.shape)
        return origins.astype(np.float32), directions.astype(np.float32)


def framed(mesh: Mesh, azimuth_deg: float, elevation_deg: float, distance: float, box: Box) -> Camera:
    """Returns the camera of a view whose product fills `box`, `distance` radii of the product away."""
    azimuth, elevation = np.radians(azimuth_deg), np.radians(elevation_deg)
    back = np.array(
        [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)]
    )
    right = np.array([np.cos(azimuth), 0.0, -np.sin(azimuth)])
    up = np.cross(back, right)
    points = mesh.corners.reshape(-1, 3)
    centre, radius = extent(mesh)
    eye = centre + distance * radius * back
    away = points - eye
    depth = -(away @ back)
    x, y = away @ right / depth, away @ up / depth
    width, height = np.ptp(x), np.ptp(y)
    zoom = float(np.sqrt((box[1] - box[0]) * (box[3] - box[2]) / (width * height)))
    shift = (
        float((box[0] + box[1]) / 2 - zoom * (x.min() + x.max()) / 2),
        float((box[2] + box[3]) / 2 - zoom * (y.min() + y.max()) / 2),
    )
    return Camera(axes=np.stack([right, up, back]), eye=eye, zoom=zoom, shift=shift)


def extent(mesh: Mesh) -> tuple[Floats, float]:
    """Returns the middle of the product's box, and the distance of the corner that is farthest from it."""
    points = mesh.corners.reshape(-1, 3)
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    return centre, float(np.linalg.norm(points - centre, axis=1).max())


def box_of(mask: NDArray[np.bool_]) -> Box:
    """Returns the box of a mask (S, S)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, right, top, bottom = (
        2 * edge / len(mask) - 1 for edge in (columns[0], columns[-1] + 1, rows[0], rows[-1] + 1)
    )
    return left, right, -bottom, -top


def overlap(solid: Solid, camera: Camera, mask: NDArray[np.bool_]) -> float:
    """Intersection over union of the product's silhouette and a mask (S, S)."""
    shown = solid.hides(*camera.rays(len(mask))).reshape(mask.shape)
    return float((shown & mask).sum() / (shown | mask).sum())


def find_camera(
    mesh: Mesh, solid: Solid, azimuth_deg: float, elevation_deg: float, mask: NDArray[np.bool_]
) -> tuple[float, Camera]:
    """Returns the camera whose silhouette agrees best with the product's mask (S, S), and the overlap."""
    factor = len(mask) // SIDE
    small, box = mask[::factor, ::factor], box_of(mask)

    def tried(distance: float) -> tuple[float, Camera]:
        camera = framed(mesh, azimuth_deg, elevation_deg, distance, box)
        return overlap(solid, camera, small), camera

    coarse = [tried(distance) for distance in DISTANCES]
    best = int(np.argmax([score for score, _ in coarse]))
    near, far = DISTANCES[max(0, best - 1)], DISTANCES[min(len(DISTANCES) - 1, best + 1)]
    fine = [tried(distance) for distance in np.linspace(near, far, BETWEEN + 2)[1:-1]]
    return max([coarse[best], *fine], key=lambda each: each[0])
