import numpy as np
import torch
from numpy.typing import NDArray

from toygan.conditions.product_shape import SHAPE_SIDE, product_shapes


def ring(side: int) -> NDArray[np.bool_]:
    """The outline of a square of half the side, two pixels wide."""
    outside, inside = np.zeros((side, side), dtype=bool), np.zeros((side, side), dtype=bool)
    quarter = side // 4
    outside[quarter:-quarter, quarter:-quarter] = True
    inside[quarter + 2 : -quarter - 2, quarter + 2 : -quarter - 2] = True
    return outside & ~inside


def sketch_of(ink: NDArray[np.bool_]) -> torch.Tensor:
    return torch.from_numpy(np.where(ink, -1.0, 1.0).astype(np.float32))[None, None]


def square() -> NDArray[np.bool_]:
    shape = np.zeros((SHAPE_SIDE, SHAPE_SIDE), dtype=bool)
    shape[32:96, 32:96] = True
    return shape


def test_a_layout_shows_the_product_by_all_labels_but_the_background() -> None:
    layout = torch.zeros(2, 256, 256, dtype=torch.int64)
    layout[0, 64:192, 64:192] = 3
    shapes = product_shapes({"layout": layout})
    assert shapes[0] is not None
    assert shapes[1] is not None
    np.testing.assert_array_equal(shapes[0].product, square())
    assert not shapes[1].product.any()


def test_in_a_sketch_the_product_is_what_lines_enclose() -> None:
    (shape,) = product_shapes({"sketch": sketch_of(ring(512))})
    assert shape is not None
    np.testing.assert_array_equal(shape.product, square())


def test_paper_is_what_has_no_line() -> None:
    (shape,) = product_shapes({"sketch": sketch_of(ring(512))})
    assert shape is not None
    assert shape.paper is not None
    inside = np.zeros_like(square())
    inside[33:95, 33:95] = True
    np.testing.assert_array_equal(shape.paper, inside | ~square())


def test_an_open_outline_encloses_nothing() -> None:
    ink = ring(512)
    ink[:300, 250:260] = False
    shapes = product_shapes({"sketch": sketch_of(ink)})
    assert shapes[0] is not None
    assert shapes[0].product.sum() < 0.2 * square().sum()


def test_a_layout_is_preferred_to_a_sketch() -> None:
    layout = torch.ones(1, 128, 128, dtype=torch.int64)
    shapes = product_shapes({"layout": layout, "sketch": sketch_of(ring(512))})
    assert shapes[0] is not None
    assert shapes[0].product.all()
    assert shapes[0].paper is None


def test_without_drawings_no_shape_is_known() -> None:
    assert product_shapes({"category": torch.zeros(2, dtype=torch.int64)}) == [None, None]
