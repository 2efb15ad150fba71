import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from catalog_schemas.photos import PHOTO_SHARD
from toygan.data.photo import WantedConditions
from toygan.data.photos import load_photos

pytest.importorskip("embreex", reason="embreex has no wheel for this machine")

from tests.benchmarks.rendering.__main__ import main
from tests.benchmarks.rendering.camera import Solid, box_of, find_camera, framed, overlap
from tests.benchmarks.rendering.ldraw import INHERITED, Library, Mesh, corner_normals
from tests.benchmarks.rendering.light import (
    FINE_DIRECTIONS,
    Surface,
    Transfer,
    to_linear,
    to_srgb,
    transfer,
)
from tests.benchmarks.rendering.scenes import Scenes

# A box of 40 x 24 x 20 units; LDraw's y points down.
BOX = """0 a box
1 16 0 0 -10 1 0 0 0 1 0 0 0 1 wall.dat
1 16 0 0 10 1 0 0 0 1 0 0 0 1 wall.dat
1 16 0 0 0 0 0 2 0 1 0 1 0 0 s\\side.dat
4 4 -20 0 -10 20 0 -10 20 0 10 -20 0 10
4 16 -20 24 -10 20 24 -10 20 24 10 -20 24 10
1 16 0 0 0 1 0 0 0 1 0 0 0 1 lost.dat
"""
WALL = "4 16 -20 0 0 20 0 0 20 24 0 -20 24 0\n"
SIDES = "4 16 -10 0 10 10 0 10 10 24 10 -10 24 10\n4 16 -10 0 -10 10 0 -10 10 24 -10 -10 24 -10\n"
# white light from every direction above the ground
SKY = np.repeat(np.where(FINE_DIRECTIONS[:, 1:2] > 0, 1.0, 0.0), 3, axis=1).astype(np.float32)
CONFIG = """0 LDraw.org Configuration File
0 !COLOUR White   CODE  15   VALUE #FFFFFF   EDGE #333333
0 !COLOUR Red     CODE   4   VALUE #B40000   EDGE #333333
"""


@pytest.fixture(scope="module")
def ldraw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ldraw")
    for name in ("parts/s", "p/48"):
        (folder / name).mkdir(parents=True)
    (folder / "parts" / "Box.dat").write_text(BOX)
    (folder / "p" / "wall.dat").write_text(WALL)
    (folder / "parts" / "s" / "side.dat").write_text(SIDES)
    (folder / "LDConfig.ldr").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def box(ldraw: Path) -> Mesh:
    return Library(ldraw).mesh("box.dat").painted(15).upright()


@pytest.fixture(scope="module")
def white_light(box: Mesh) -> Transfer:
    camera = framed(box, 30.0, 25.0, 5.0, (-0.7, 0.7, -0.6, 0.6))
    return transfer(
        box, Solid(box), camera, {4: (255, 255, 255), 15: (255, 255, 255)}, np.random.default_rng(0)
    )


def test_a_part_is_read_with_the_parts_that_it_refers_to(ldraw: Path) -> None:
    mesh = Library(ldraw).mesh("BOX.DAT")
    # six quads; the reference to an unknown file is left out
    assert mesh.corners.shape == (12, 3, 3)
    points = mesh.corners.reshape(-1, 3)
    assert points.min(axis=0).tolist() == [-20, 0, -10]
    assert points.max(axis=0).tolist() == [20, 24, 10]
    assert sorted(np.unique(mesh.colours).tolist()) == [4, INHERITED]
    with pytest.raises(KeyError):
        Library(ldraw).mesh("lost.dat")


def test_an_upright_mesh_has_y_up_and_its_front_towards_positive_z(box: Mesh) -> None:
    assert box.corners[..., 1].min() == -24
    assert box.corners[..., 1].max() == 0
    assert set(box.colours.tolist()) == {4, 15}


def test_colours_are_read_from_the_configuration(ldraw: Path) -> None:
    assert Library(ldraw).rgb == {15: (255, 255, 255), 4: (0xB4, 0, 0)}


def test_the_normals_of_a_box_keep_its_edges(box: Mesh) -> None:
    normals = corner_normals(box)
    assert np.allclose(np.abs(normals).max(axis=-1), 1)
    assert np.allclose(normals, normals[:, :1])


def test_the_normals_of_a_tube_point_away_from_its_axis() -> None:
    angles = np.linspace(0, 2 * np.pi, 33)
    ring = np.stack([np.cos(angles), np.zeros(33), np.sin(angles)], axis=1)
    low, high = ring, ring + np.array([0.0, 1.0, 0.0])
    corners = np.concatenate(
        [
            np.stack([low[:-1], low[1:], high[1:]], axis=1),
            np.stack([low[:-1], high[1:], high[:-1]], axis=1),
        ]
    )
    normals = corner_normals(Mesh(corners=corners, colours=np.full(len(corners), 15)))
    outwards = corners * [1.0, 0.0, 1.0]
    assert np.allclose(np.abs((normals * outwards).sum(axis=-1)), 1, atol=0.01)


@pytest.mark.parametrize("distance", [3.7, 6.2])
def test_the_camera_of_a_photo_is_found(box: Mesh, distance: float) -> None:
    solid = Solid(box)
    camera = framed(box, -35.0, 20.0, distance, (-0.8, 0.6, -0.5, 0.7))
    mask = solid.hides(*camera.rays(512)).reshape(512, 512)
    left, right, bottom, top = box_of(mask)
    # The middle and the area are those asked for. The ratio of the sides is the product's own.
    assert (left + right, bottom + top) == pytest.approx((-0.2, 0.2), abs=0.01)
    assert (right - left) * (top - bottom) == pytest.approx(1.4 * 1.2, abs=0.02)
    found, again = find_camera(box, solid, -35.0, 20.0, mask)
    assert found > 0.985
    assert found == pytest.approx(overlap(solid, again, mask[::2, ::2]))


def test_a_white_box_on_white_ground_in_white_light_is_white(white_light: Transfer) -> None:
    """The furnace test: nothing gains or loses light, except where the box takes light from the ground."""
    picture, ground = white_light.lit(SKY, np.ones(3, np.float32), Surface(gloss=0.0))
    assert ground[0].mean() == pytest.approx(1.0, abs=0.03)
    assert ground.max() < 1.1
    inside = picture[picture[..., 3] == 1][:, :3]
    # A wall receives half of its light from the sky, and the other half from the ground.
    assert np.percentile(inside, 90) == pytest.approx(1.0, abs=0.06)
    assert inside.mean() > 0.8


def test_black_ground_takes_half_of_the_light_of_a_wall(white_light: Transfer) -> None:
    picture, _ = white_light.lit(SKY, np.zeros(3, np.float32), Surface(gloss=0.0))
    inside = picture[picture[..., 3] == 1][:, :3]
    # the top is as light as before, the walls are half as light
    assert np.percentile(inside, 98) == pytest.approx(1.0, abs=0.05)
    assert np.percentile(inside, 20) == pytest.approx(0.5, abs=0.05)


def test_light_from_one_side_casts_a_shadow_to_the_other(white_light: Transfer) -> None:
    lamp = FINE_DIRECTIONS @ np.array([-0.8, 0.6, 0.0], np.float32) > np.cos(0.2)
    light = np.where(lamp[:, None], 10.0, 0.0).astype(np.float32) * np.ones(3, np.float32)
    _, ground = white_light.lit(light, np.ones(3, np.float32), Surface())
    middle = ground[len(ground) // 2 :, :, 0]
    left, right = middle[:, : middle.shape[1] // 2], middle[:, middle.shape[1] // 2 :]
    assert right.min() < 0.3 * left.max()
    assert left.mean() > 1.1 * right.mean()


def test_srgb_and_linear_light_are_inverse() -> None:
    values = np.linspace(0, 1, 50)
    assert np.allclose(to_srgb(to_linear(values)), values, atol=1e-5)
    assert to_linear(np.array([0.5]))[0] == pytest.approx(0.2140, abs=1e-4)  # IEC 61966-2-1


def test_snapshots_show_the_product_where_their_masks_say(white_light: Transfer) -> None:
    scenes = Scenes(3)
    mask = white_light.shown[::2, ::2]
    edge = (len(mask) - 256) // 2
    mask = mask[edge : edge + 256, edge : edge + 256]
    for _ in range(4):
        framed_picture, framed_coverage = scenes.framed(white_light, Surface())
        free_picture, free_coverage = scenes.free(white_light, Surface(), mask)
        for picture, coverage in ((framed_picture, framed_coverage), (free_picture, free_coverage)):
            assert picture.shape == (3, 256, 256)
            assert 0 <= float(picture.min()) <= float(picture.max()) <= 1
            assert coverage.shape == (256, 256)
        shown = framed_coverage.numpy() > 0.5
        assert (shown & mask).sum() / (shown | mask).sum() > 0.97
        # the product does not touch the edges, and has the size that was asked for
        free = free_coverage.numpy() > 0.5
        assert not any(line.any() for line in (free[0], free[-1], free[:, 0], free[:, -1]))
        sides = [np.ptp(np.flatnonzero(free.any(axis=axis))) / 256 for axis in (0, 1)]
        assert 0.4 <= max(sides) <= 0.87


def test_the_program_writes_photo_shards_that_a_training_reads(
    ldraw: Path, box: Mesh, tmp_path: Path
) -> None:
    solid = Solid(box)
    camera = framed(box, 20.0, 25.0, 5.0, (-0.7, 0.7, -0.6, 0.6))
    mask = solid.hides(*camera.rays(256)).reshape(256, 256)
    row = {
        "sku": "brick-box-15",
        "category": "brick",
        "part": "Box",
        "colour_hex": "#FFFFFF",
        "finish": "solid",
        "azimuth_deg": 20.0,
        "elevation_deg": 25.0,
        "split": "train",
        "photo": _file(np.where(mask[..., None], 60, 255).astype(np.uint8).repeat(3, axis=2)),
        "layout": _file(mask.astype(np.uint8)),
    }
    rows = [
        row | {"photo_id": "good"},
        row | {"photo_id": "other view", "azimuth_deg": 80.0},
        row | {"photo_id": "no part", "sku": "brick-lost-15", "part": "lost"},
        row | {"photo_id": "measuring", "sku": "brick-val-15", "split": "val"},
    ]
    photos = tmp_path / "photos"
    photos.mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema=PHOTO_SHARD), photos / "photos.parquet")
    output = tmp_path / "rendered"
    options = ["--ldraw", str(ldraw), "--photos", str(photos), "--output", str(output), "--count", "2"]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    assert "other view brick-box-15: its silhouettes overlap by" in result.output
    assert "no part brick-lost-15: no such part or colour" in result.output
    assert "2 rows in" in result.output
    read = load_photos(output, resolution=64, split="train", drawings=WantedConditions(kind="photo"))
    assert len(read) == 2
    assert read.condition_images is not None
    assert read.free_snapshots is not None
    assert read.free_snapshots.shape == (2, 256, 256, 4)
    for snapshots in (read.condition_images, read.free_snapshots):
        assert snapshots[..., 3].float().mean() > 10
    assert not read.condition_images[0].equal(read.condition_images[1])


def _file(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
