"""Synthetic snapshots, and the snapshots of training photos."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from catalog_schemas.photos import PHOTO_SHARD, PHOTO_SHARD_REQUIRED
from tests.shards import photo_row, write_shard
from toygan.artifact.product_finder import ProductFinder
from toygan.data.photo import Photo, WantedConditions
from toygan.data.photos import load_photos
from toygan.data.snapshot_pairs import read_free_snapshot, read_snapshot_pair
from toygan.data.snapshots import (
    Cutout,
    Snapshot,
    framed_snapshot,
    free_snapshot,
    moved,
    print_near,
    retaken,
)
from toygan.errors import BadInput
from toygan.training.presets import PRESETS
from toygan.training.studio_batches import draw_snapshots

SIDE = 64


def cutout(colour: tuple[float, float, float] = (0.8, 0.1, 0.1)) -> Cutout:
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, 10:54, 14:50] = 1
    photo = torch.where(mask > 0, torch.tensor(colour).view(3, 1, 1), 1.0)
    return Cutout(photo=photo, mask=mask)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def check(snapshot: Snapshot) -> None:
    assert snapshot.picture.shape == (3, SIDE, SIDE)
    assert snapshot.picture.isfinite().all()
    assert 0 <= snapshot.picture.min() <= snapshot.picture.max() <= 1
    assert set(snapshot.mask.unique().tolist()) <= {0.0, 1.0}


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), others=st.integers(0, 2))
def test_snapshots_are_pictures_with_a_mask(seed: int, others: int) -> None:
    behind = [cutout((0.1, 0.7, 0.2)).mirrored()] * others
    framed = framed_snapshot(cutout(), behind, rng(seed))
    check(framed)
    assert torch.equal(framed.mask, cutout().mask)
    check(free_snapshot(cutout(), behind, rng(seed)))


def test_the_same_seed_gives_the_same_snapshot() -> None:
    first, second = (framed_snapshot(cutout(), [], rng(3)).picture for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, framed_snapshot(cutout(), [], rng(4)).picture)


def test_grounds_differ_more_than_products() -> None:
    """The product stays recognisable while the ground may be anything."""
    pictures = torch.stack([framed_snapshot(cutout(), [], rng(seed)).picture for seed in range(24)])
    inside = cutout().mask[0] > 0
    redder = pictures[:, 0][:, inside].mean(1) > pictures[:, 1][:, inside].mean(1)
    assert redder.all()
    assert pictures[:, :, ~inside].mean(2).std(0).min() > 0.1


def test_the_ground_shows_through_a_transparent_product() -> None:
    solid = cutout((0.7, 0.9, 0.9))
    clear = replace(solid, is_transparent=True)
    inside = solid.mask[0] > 0
    agreement = []
    for product in (solid, clear):
        pictures = torch.stack([framed_snapshot(product, [], rng(seed)).picture for seed in range(32)])
        # the balance of red and blue, which exposure does not change
        redness = pictures[:, 0] / (pictures[:, 0] + pictures[:, 2]).clamp_min(1e-3)
        agreement.append(np.corrcoef(redness[:, inside].mean(1), redness[:, ~inside].mean(1))[0, 1])
    assert agreement[1] > max(0.6, agreement[0] + 0.1), agreement


def test_a_moved_product_has_its_size_and_place() -> None:
    small = moved(cutout(), 0.5, (0.4, -0.2))
    assert float(small.mask.sum()) == pytest.approx(float(cutout().mask.sum()) / 4, rel=0.1)
    rows, columns = small.mask[0].nonzero().float().mean(0).tolist()
    assert columns == pytest.approx(SIDE / 2 + 0.4 * SIDE / 2, abs=1)
    assert rows == pytest.approx(SIDE / 2 - 0.2 * SIDE / 2, abs=1)


def test_prints_near_the_product_have_its_colour_at_times() -> None:
    red, grey = cutout(), torch.full((3, SIDE, SIDE), 0.5)
    printed = [print_near(grey, red, rng(seed)) for seed in range(16)]
    changed = [(picture != grey).any(dim=0) for picture in printed]
    assert all(where.any() for where in changed)
    is_red = [
        (picture[0] > 0.5) & (picture[1] < 0.2) & where
        for picture, where in zip(printed, changed, strict=True)
    ]
    assert sum(bool(where.any()) for where in is_red) >= 4
    assert sum(where.float().mean() for where in changed) / len(changed) < 0.6
    nothing = Cutout(photo=red.photo, mask=torch.zeros_like(red.mask))
    assert torch.equal(print_near(grey, nothing, rng(0)), grey)


def test_a_retaken_snapshot_keeps_its_structure() -> None:
    picture = cutout().photo * 0.6
    again = retaken(picture, rng(1))
    assert not torch.equal(again, picture)
    assert np.corrcoef(picture.flatten(), again.flatten())[0, 1] > 0.9


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


MASK = (cutout().mask[0].numpy() * 255).astype(np.uint8)
RESIZED = (cutout().photo * 255).byte()
SHOT = np.full((SIDE, SIDE, 3), 90, np.uint8)
OTHER = np.where(np.hypot(*(np.mgrid[:SIDE, :SIDE] - 32)) % 12 < 4, 255, 0).astype(np.uint8)  # rings
DISC = np.where(np.hypot(*(np.mgrid[:SIDE, :SIDE] - 32)) < 22, 255, 0).astype(np.uint8)
STRIPES = np.broadcast_to(np.where(np.arange(SIDE) % 8 < 4, 230, 20)[:, None, None], SHOT.shape).astype(
    np.uint8
)


def row(**changes: bytes | None) -> Photo:
    files = {"condition": png(SHOT), "mask": png(MASK), "layout": png(MASK // 255 * 5)} | changes
    return Photo(
        photo_id="a", sku="a", category="brick", title=None, colour_hex=None, photo=b"", source="a", **files
    )


def test_a_photo_gives_its_snapshot_and_mask() -> None:
    pair = read_snapshot_pair(row(), RESIZED, may_lack=False)
    assert pair.shape == (SIDE, SIDE, 4)
    assert (pair[..., :3] == 90).all()
    assert np.array_equal(pair[..., 3], MASK)


def test_a_photo_without_a_snapshot_gives_itself() -> None:
    pair = read_snapshot_pair(row(condition=None, mask=None), RESIZED, may_lack=True)
    assert np.array_equal(pair[..., :3], RESIZED.permute(1, 2, 0).numpy())
    assert np.array_equal(pair[..., 3], MASK)


def held(height: int = 480, width: int = 360) -> tuple[np.ndarray, np.ndarray]:
    """A snapshot of the product in another size and place, and its mask; prints have another colour."""
    top, left, scale = 120, 60, 4
    tall, wide = 44 * scale, 36 * scale
    snapshot = np.full((height, width, 3), (40, 60, 160), np.uint8)
    snapshot[top : top + tall, left : left + wide] = (210, 40, 30)
    snapshot[top : top + tall // 4, left : left + wide // 2] = (20, 20, 20)
    mask = np.zeros((height, width), np.uint8)
    mask[top : top + tall, left : left + wide] = 255
    return snapshot, mask


PRINTED = RESIZED.clone()
PRINTED[:, 10:21, 14:32] = 30


@pytest.mark.parametrize("known", [{}, {"layout": None}], ids=["layout", "white ground"])
def test_a_snapshot_that_is_not_aligned_is_registered(known: dict[str, None]) -> None:
    snapshot, mask = held()
    pair = read_snapshot_pair(row(condition=png(snapshot), mask=png(mask), **known), PRINTED, may_lack=False)
    shown = pair[..., 3] > 127
    assert (shown & (MASK > 0)).sum() / (shown | (MASK > 0)).sum() > 0.93
    assert pair[12:19, 16:30, 0].max() < 60  # the print lies on the print
    assert pair[24:50, 18:46, 0].min() > 180


class Red(nn.Module):
    """Finds red and dark pixels on a blue table."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return 20.0 * (pictures[:, 2:] < 0).float() - 10


def test_the_product_is_found_in_a_snapshot_without_a_mask() -> None:
    finder = ProductFinder(network=Red(), device=torch.device("cpu"))  # type: ignore[arg-type]
    snapshot, _ = held()
    photo = row(condition=png(snapshot), mask=None)
    shown = read_snapshot_pair(photo, PRINTED, may_lack=False, finder=finder)[..., 3] > 127
    assert (shown & (MASK > 0)).sum() / (shown | (MASK > 0)).sum() > 0.9
    nothing = row(condition=png(np.full((96, 96, 3), 200, np.uint8)), mask=None)
    with pytest.raises(BadInput, match=r"not found for sure in its snapshot \(product_not_found\)"):
        read_snapshot_pair(nothing, PRINTED, may_lack=False, finder=finder)


def test_a_mask_of_another_size_is_fitted_to_its_snapshot() -> None:
    snapshot, mask = held()
    small = png(np.asarray(Image.fromarray(mask).resize((90, 120), Image.Resampling.NEAREST)))
    pair = read_snapshot_pair(row(condition=png(snapshot), mask=small), PRINTED, may_lack=False)
    assert pair[12:19, 16:30, 0].max() < 60


def test_a_studio_learns_from_photos_with_and_without_a_snapshot(tmp_path: Path) -> None:
    layout = png(MASK // 255 * 5)
    names = (*PHOTO_SHARD_REQUIRED, "layout", "snapshot", "mask")
    rows = [
        photo_row("with", photo=png(PRINTED.permute(1, 2, 0).numpy()), layout=layout)
        | {"snapshot": png(SHOT), "mask": png(MASK)},
        photo_row("without", photo=png(PRINTED.permute(1, 2, 0).numpy()), layout=layout),
    ]
    write_shard(tmp_path, rows, schema=pa.schema([PHOTO_SHARD.field(name) for name in names]))
    wanted = WantedConditions(kind="photo", may_lack=True)
    assert load_photos(tmp_path, resolution=32, split="train", drawings=wanted).skus == ("with", "without")
    only = wanted._replace(may_lack=False)
    assert load_photos(tmp_path, resolution=32, split="train", drawings=only).skus == ("with",)


def test_a_mask_network_learns_from_free_snapshots_where_there_are_some(tmp_path: Path) -> None:
    snapshot, mask = held(300, 300)
    photo = png(PRINTED.permute(1, 2, 0).numpy())
    row_of = {"layout": png(MASK // 255 * 5), "snapshot": png(SHOT), "mask": png(MASK)}
    free = {"free_snapshot": png(snapshot), "free_mask": png(mask)}
    rows = [
        photo_row("free", photo=photo) | row_of | free,
        photo_row("framed", photo=photo) | row_of,
        photo_row("without mask", photo=photo) | row_of | {"free_snapshot": png(snapshot)},
    ]
    names = (*PHOTO_SHARD_REQUIRED, "layout", "snapshot", "mask", "free_snapshot", "free_mask")
    write_shard(tmp_path, rows, schema=pa.schema([PHOTO_SHARD.field(name) for name in names]))
    wanted = WantedConditions(kind="photo", may_lack=True)
    photos = load_photos(tmp_path, resolution=64, split="train", drawings=wanted)
    assert photos.skus == ("free", "framed")
    assert photos.free_snapshots is not None
    assert photos.free_snapshots[1].max() == 0
    config = replace(PRESETS["studio"], resolution=64)
    drawn = torch.cat(
        [draw_snapshots(photos, torch.tensor([0]), config, rng(seed)).free for seed in range(8)]
    )
    assert drawn.shape == (8, 4, 256, 256)
    small = torch.from_numpy(np.array(Image.fromarray(mask).resize((256, 256)))) > 127
    # most of the drawn snapshots are the given one
    agreeing = ((drawn[:, 3] > 0) == small).float().mean(dim=(1, 2)) > 0.98
    assert agreeing.sum() >= 4
    assert not agreeing.all()
    framed = draw_snapshots(photos, torch.tensor([1]), config, rng(0)).free
    assert framed is not None
    assert ((framed[0, 3] > 0) == small).float().mean() < 0.98


def test_a_free_snapshot_and_its_mask_have_one_size() -> None:
    photo = row()._replace(free_snapshot=png(SHOT), free_mask=png(MASK[:40]))
    with pytest.raises(
        BadInput, match="its free_mask of 64 x 40 pixels does not fit its snapshot of 64 x 64"
    ):
        read_free_snapshot(photo)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"condition": None}, "it has no snapshot"),
        ({"mask": None}, "its snapshot has no mask"),
        ({"mask": png(OTHER)}, "shows another shape than the photo: scaled and moved, .* overlap by 0"),
        ({"condition": png(STRIPES), "mask": png(DISC), "layout": None}, "does not agree with the photo"),
        ({"mask": png(MASK[:40])}, "its mask of 64 x 40 pixels does not fit its snapshot of 64 x 64"),
        ({"condition": b"text"}, "this is not a JPEG"),
    ],
)
def test_an_unusable_snapshot_is_set_aside(changes: dict[str, bytes | None], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        read_snapshot_pair(row(**changes), RESIZED, may_lack=False)
