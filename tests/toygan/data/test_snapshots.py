"""Synthetic snapshots, and the snapshots of training photos."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from toygan.data.photo import Photo
from toygan.data.snapshot_pairs import read_snapshot_pair
from toygan.data.snapshots import Cutout, Snapshot, framed_snapshot, free_snapshot, moved, retaken
from toygan.errors import BadInput

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


def test_a_moved_product_has_its_size_and_place() -> None:
    small = moved(cutout(), 0.5, (0.4, -0.2))
    assert float(small.mask.sum()) == pytest.approx(float(cutout().mask.sum()) / 4, rel=0.1)
    rows, columns = small.mask[0].nonzero().float().mean(0).tolist()
    assert columns == pytest.approx(SIDE / 2 + 0.4 * SIDE / 2, abs=1)
    assert rows == pytest.approx(SIDE / 2 - 0.2 * SIDE / 2, abs=1)


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


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"condition": None}, "it has no snapshot"),
        ({"mask": None}, "its snapshot has no mask"),
        ({"mask": png(np.roll(MASK, 12, axis=1))}, "not aligned with the photo: their masks overlap by 0.5"),
        ({"condition": b"text"}, "this is not a JPEG"),
    ],
)
def test_an_unusable_snapshot_is_set_aside(changes: dict[str, bytes | None], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        read_snapshot_pair(row(**changes), RESIZED, may_lack=False)
