"""Whether a picture shows what its snapshot shows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from toygan.approval.fidelity import compare

SIDE = 256


def product(seed: int) -> NDArray[np.float64]:
    """A disc of random bricks, (SIDE, SIDE) in 0..1, and 2 outside."""
    bricks = np.random.default_rng(seed).uniform(0.2, 0.8, (16, 16)).repeat(16, 0).repeat(16, 1)
    across = np.arange(SIDE) - SIDE / 2
    return np.where(np.hypot(across, across[:, None]) < 90, bricks, 2)


def snapshot(bricks: NDArray[np.float64], *, gain: float = 0.7, offset: float = 0.1) -> NDArray[np.uint8]:
    """The product on a dark table, in the light of a room."""
    light = gain * np.linspace(0.7, 1.2, SIDE)
    seen = np.where(bricks > 1, 0.25, bricks * light + offset)
    layers = np.stack([seen, seen, seen * 0.8, bricks <= 1], axis=2)
    return (255 * layers.clip(0, 1)).astype(np.uint8)


def studio(bricks: NDArray[np.float64]) -> NDArray[np.uint8]:
    shown = np.where(bricks > 1, 1.0, bricks)
    return (255 * np.stack([shown] * 3, axis=2)).astype(np.uint8)


@settings(max_examples=15, deadline=None)
@given(gain=st.floats(0.5, 1.1), offset=st.floats(0, 0.15), seed=st.integers(0, 50))
def test_another_light_agrees(gain: float, offset: float, seed: int) -> None:
    found = compare(studio(product(seed)), snapshot(product(seed), gain=gain, offset=offset))
    assert found.agrees, found
    assert found.structure > 0.8


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 50))
def test_another_product_differs(seed: int) -> None:
    assert not compare(studio(product(seed)), snapshot(product(seed + 100))).agrees


def test_a_lost_part_lowers_the_structure() -> None:
    bricks = product(1)
    erased = studio(bricks)
    erased[:, SIDE // 2 :] = 255
    assert (
        compare(erased, snapshot(bricks)).structure
        < compare(studio(bricks), snapshot(bricks)).structure - 0.3
    )


def test_a_new_part_beside_the_product_differs() -> None:
    bricks = product(2)
    added = studio(bricks)
    added[10:60, 10:60] = (30, 90, 30)
    found = compare(added, snapshot(bricks))
    assert found.new_parts == pytest.approx(2500 / (np.pi * 90**2), rel=0.05)
    assert not found.agrees


def test_a_coloured_soft_shadow_is_no_new_part() -> None:
    bricks = product(2)
    shadowed = studio(bricks)
    across = np.arange(SIDE) - SIDE / 2
    away = np.hypot(across, across[:, None])
    depth = np.clip((125 - away) / 35, 0, 1) * (bricks > 1)
    shadowed = (shadowed * (1 - depth[..., None] * np.array([0.1, 0.35, 0.3]))).astype(np.uint8)
    assert (shadowed[..., 0].astype(int) - shadowed[..., 1] > 40).any()
    found = compare(shadowed, snapshot(bricks))
    assert found.new_parts == 0
    assert found.agrees


def test_a_product_without_structure_agrees() -> None:
    plain = np.where(product(3) > 1, 2, 0.5)
    assert compare(studio(plain), snapshot(plain, gain=1.0, offset=0.0)).new_parts == 0


def coloured(mask: NDArray[np.bool_], table: tuple[float, float, float]) -> NDArray[np.uint8]:
    """A green disc with a handle at its right, on a table, and a mask."""
    across = np.arange(SIDE) - SIDE / 2
    disc = np.hypot(across, across[:, None]) < 80
    handle = np.zeros_like(disc)
    handle[110:146, 200:225] = True
    seen = np.where((disc | handle)[..., None], np.array([0.1, 0.5, 0.2]), np.array(table))
    return (255 * np.concatenate([seen, mask[..., None]], axis=2)).astype(np.uint8)


@pytest.mark.parametrize(
    ("table", "is_found"), [((0.7, 0.7, 0.7), True), ((0.6, 0.2, 0.2), True), ((0.1, 0.5, 0.2), False)]
)
def test_a_part_outside_the_mask_is_found_by_its_colour(
    table: tuple[float, float, float], is_found: bool
) -> None:
    """A table of the product's colour hides a lost part from this measure, and is no part itself."""
    across = np.arange(SIDE) - SIDE / 2
    disc = np.hypot(across, across[:, None]) < 80
    whole = disc.copy()
    whole[110:146, 200:225] = True
    for mask, lost in ((disc, 36 * 17 / (np.pi * 80**2)), (whole, 0.0)):
        framed = coloured(mask, table)
        found = compare(framed[..., :3], framed)
        assert found.lost_parts == pytest.approx(lost if is_found else 0, rel=0.3, abs=0.002), found
