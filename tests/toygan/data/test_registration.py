"""Snapshots are laid on the photo of the same product, whatever their size and place."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from toygan.data.registration import moved, product_on_white, register

SIDE = 128


def shape(height: int, width: int, top: float, left: float, size: float) -> NDArray[np.bool_]:
    """A mark like the letter L with a hole, `size` pixels a side, in a picture of this size."""
    rows, columns = np.mgrid[:height, :width].astype(float) + 0.5
    down, across = (rows - top) / size, (columns - left) / size
    inside = (down >= 0) & (down < 1) & (across >= 0) & (across < 1) & ((down > 0.6) | (across < 0.5))
    return inside & ~((down > 0.7) & (down < 0.9) & (across > 0.6) & (across < 0.9))


WANTED = shape(SIDE, SIDE, 30, 36, 60)


@settings(max_examples=15, deadline=None)
@given(size=st.floats(60, 200), down=st.floats(0, 1), across=st.floats(0, 1), wide=st.booleans())
def test_a_product_of_any_size_and_place_is_laid_on_the_photo(
    size: float, down: float, across: float, wide: bool
) -> None:
    height, width = (240, 320) if wide else (320, 240)
    mask = shape(height, width, down * (height - size), across * (width - size), size)
    found = register(mask, torch.from_numpy(WANTED))
    assert found is not None
    assert found.overlap > 0.9, found
    assert found.scale == pytest.approx(60 / size, rel=0.06)
    placed = moved(255 * mask[..., None].astype(np.uint8), found, SIDE)[..., 0] > 127
    assert (placed & WANTED).sum() / (placed | WANTED).sum() > 0.88


def test_a_large_snapshot_and_a_small_product_take_little_memory() -> None:
    """A square of the photo's size around this snapshot would have 48,000 pixels a side."""
    mask = shape(4000, 3000, 200, 100, 2800)
    wanted = torch.from_numpy(shape(SIDE, SIDE, 50, 40, 7.5))
    tracemalloc.start()
    found = register(mask, wanted)
    assert found is not None
    moved(np.zeros((4000, 3000, 4), np.uint8), found, SIDE)
    assert tracemalloc.get_traced_memory()[1] < 400e6
    tracemalloc.stop()


def test_another_shape_overlaps_less() -> None:
    disc = np.hypot(*(np.mgrid[:200, :200] - 100)) < 60
    found = register(disc, torch.from_numpy(WANTED))
    assert found is not None
    assert found.overlap < 0.8


def test_an_empty_mask_is_not_registered() -> None:
    assert register(np.zeros((20, 20), bool), torch.from_numpy(WANTED)) is None
    assert register(WANTED, torch.zeros(SIDE, SIDE, dtype=torch.bool)) is None


def test_a_product_on_white_is_found_with_what_it_encloses() -> None:
    photo = torch.full((3, 40, 40), 255, dtype=torch.uint8)
    photo[:, 2:6] = 235  # a soft shadow
    photo[:, 10:30, 10:30] = torch.tensor([200, 30, 30], dtype=torch.uint8).view(3, 1, 1)
    photo[:, 18:22, 18:22] = 255
    wanted = torch.zeros(40, 40, dtype=torch.bool)
    wanted[10:30, 10:30] = True
    assert torch.equal(product_on_white(photo), wanted)
