import numpy as np
import pytest
from numpy.typing import NDArray

from toygan.approval.outline import LEAST_STEP, outline_seen

SIDE = 128


def square(first: int = 32, last: int = 96) -> NDArray[np.bool_]:
    shape = np.zeros((SIDE, SIDE), dtype=bool)
    shape[first:last, first:last] = True
    return shape


def painted(shape: NDArray[np.bool_], value: int) -> NDArray[np.uint8]:
    return np.where(shape[..., None], value, 255).repeat(3, axis=2).astype(np.uint8)


def test_a_dark_product_shows_its_whole_outline() -> None:
    assert outline_seen(painted(square(), 40), square()) == 1.0


def test_a_white_product_shows_none_of_its_outline() -> None:
    assert outline_seen(painted(square(), 255), square()) == 0.0


@pytest.mark.parametrize(("darker", "seen"), [(LEAST_STEP, 1.0), (LEAST_STEP - 1, 0.0)])
def test_a_step_counts_from_the_least_one_on(darker: int, seen: float) -> None:
    assert outline_seen(painted(square(), 255 - darker), square()) == seen


def test_a_step_in_one_channel_is_enough() -> None:
    picture = painted(square(), 255)
    picture[square(), 2] = 200
    assert outline_seen(picture, square()) == 1.0


def test_a_white_roof_costs_its_share_of_the_outline() -> None:
    """32 of 64 rows are white: 64 pixels of the upper side and 31 of each other side. The last two rows of
    both sides see the edge of the dark part."""
    picture = painted(square(), 40)
    picture[32:64] = 255
    seen = outline_seen(picture, square())
    assert seen == pytest.approx((252 - 64 - 2 * 29) / 252, abs=1e-4)


def test_the_pictures_resolution_does_not_matter() -> None:
    picture = painted(square(), 40)
    picture[32:64] = 255
    large = picture.repeat(4, axis=0).repeat(4, axis=1)
    assert outline_seen(large, square()) == outline_seen(picture, square())


def test_an_outline_along_the_border_does_not_count() -> None:
    assert outline_seen(painted(square(0, SIDE), 255), square(0, SIDE)) is None
    half = np.zeros((SIDE, SIDE), dtype=bool)
    half[:64] = True
    assert outline_seen(painted(half, 40), half) == 1.0


def test_without_a_product_there_is_no_outline() -> None:
    nothing = np.zeros((SIDE, SIDE), dtype=bool)
    assert outline_seen(painted(nothing, 40), nothing) is None
