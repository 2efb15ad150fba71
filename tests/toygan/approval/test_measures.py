import io
import warnings

import imagehash
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion

from toygan.approval.measures import (
    Measures,
    background_white,
    hex_to_lab,
    main_colour_of,
    main_colours,
    measure,
    product_pixels,
)
from toygan.conditions.shape import Shape

RED, BLUE, GREY = (200, 20, 30), (20, 40, 200), (150, 150, 150)


def ground(side: int = 64, value: tuple[int, int, int] = (255, 255, 255)) -> NDArray[np.uint8]:
    return np.full((side, side, 3), value, dtype=np.uint8)


def box(colour: tuple[int, int, int], *, side: int = 64, share: float = 0.25) -> NDArray[np.uint8]:
    """A box in the middle that covers `share` of the frame."""
    picture, half = ground(side), round(side * share**0.5 / 2)
    picture[side // 2 - half : side // 2 + half, side // 2 - half : side // 2 + half] = colour
    return picture


def one(picture: NDArray[np.uint8], colour_hex: str | None = None) -> Measures:
    return measure(picture[None], [colour_hex])[0]


@pytest.mark.parametrize("share", [0.0625, 0.25, 0.5625])
def test_the_fill_ratio_is_the_share_of_the_frame(share: float) -> None:
    assert one(box(RED, share=share)).fill_ratio == share


def test_soft_shadow_is_no_product() -> None:
    picture = box(RED)
    picture[48:56, 10:54] = 215  # shadow on the ground
    assert one(picture).fill_ratio == 0.25


def test_the_white_inside_of_a_dark_ring_belongs_to_the_product() -> None:
    ring = box(GREY)
    ring[20:44, 20:44] = 255
    assert product_pixels(ring[None]).mean() == 0.25


def test_pixels_between_need_product_in_their_row_and_in_their_column() -> None:
    picture = ground(8)
    picture[[1, 1, 5], [1, 5, 1]] = 0  # three corners of a square
    seen = product_pixels(picture[None])[0]
    assert sorted(zip(*np.nonzero(seen), strict=True)) == [(1, 1), (1, 5), (5, 1)]
    picture[5, 5] = 0
    picture[3, [1, 5]] = 0
    picture[[1, 5], 3] = 0
    assert product_pixels(picture[None])[0, 3, 3]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ((255, 255, 255), 1.0),
        ((204, 204, 204), 0.8),
        ((255, 255, 204), 0.6),
        ((0, 0, 0), 0.0),
        ((255, 0, 0), 0.0),
    ],
)
def test_grey_counts_once_and_a_tint_twice(value: tuple[int, int, int], wanted: float) -> None:
    assert background_white(ground(value=value)[None])[0] == pytest.approx(wanted)


def test_only_the_border_tells_the_background() -> None:
    picture = ground()
    picture[4:-4, 4:-4] = 0
    assert one(picture).background_white == 1.0
    picture[:, :4] = 0  # of 4 * 64 * 4 - 4 * 16 = 960 border pixels 256
    assert one(picture).background_white == pytest.approx(1 - 256 / 960, abs=1e-4)


def test_a_flat_picture_has_no_contrast_and_half_and_half_has_all() -> None:
    assert one(ground(value=GREY)).contrast == 0
    picture = ground()
    picture[:, :32] = 0
    assert one(picture).contrast == pytest.approx(127.5, abs=0.01)


def test_white_red_and_blue_in_cielab() -> None:
    lab = hex_to_lab(["#FFFFFF", None, "#FF0000", "#0000FF"])
    # Lindbloom's calculator, sRGB, D65.
    wanted = np.array([[100, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]], dtype=np.float32)
    np.testing.assert_allclose(lab[[0, 2, 3]], wanted, atol=0.05)
    assert np.isnan(lab[1]).all()


def test_the_main_colour_of_one_colour_is_that_colour() -> None:
    measures = one(box(RED), "#C8141E")
    assert measures.main_colour == main_colour_of(box(RED), "#C8141E") == "#C8141E"
    assert measures.colour_delta_e == 0


def test_the_distance_is_ciede2000() -> None:
    # On the grey axis with mean lightness 50 the formula is |L1 - L2|, so black to white is 100.
    assert one(box((0, 0, 0)), "#FFFFFF").colour_delta_e == pytest.approx(100, abs=0.01)


def test_a_quarter_of_the_product_is_enough_and_less_is_not() -> None:
    half_blue = box(RED)
    half_blue[16:48, 16:32] = BLUE
    assert one(half_blue, "#1428C8").colour_delta_e == 0
    assert one(half_blue, "#C8141E").colour_delta_e == 0
    spot = box(RED)
    spot[16:24, 16:32] = BLUE  # an eighth
    assert (one(spot, "#1428C8").colour_delta_e or 0) > 15


def test_without_a_wanted_colour_the_median_is_shown() -> None:
    spot = box(RED)
    spot[16:28, 16:48] = BLUE
    measures = one(spot)
    assert measures.main_colour == main_colour_of(spot, None) == "#C8141E"
    assert measures.colour_delta_e is None


def test_a_product_that_looks_like_the_ground_is_looked_for_in_the_middle() -> None:
    picture = box((235, 235, 235))
    assert one(picture).fill_ratio == 0
    assert one(picture, "#EBEBEB").main_colour == "#EBEBEB"
    shown = product_pixels(picture[None])
    assert main_colours(picture[None], shown, hex_to_lab(["#EBEBEB"]))[0].tolist() == [235, 235, 235]
    assert not shown.any()  # the caller's mask stays as it was


@pytest.mark.parametrize("side", [128, 256])
def test_measures_do_not_depend_on_the_resolution(side: int) -> None:
    small, large = one(box(RED), "#0000FF"), one(box(RED, side=side), "#0000FF")
    assert small == large


def test_a_picture_has_the_same_measures_alone_and_in_a_batch() -> None:
    rng = np.random.default_rng(0)
    boxes = np.stack([box(RED, share=share) for share in rng.uniform(0.1, 0.8, 20)])
    pictures = np.clip(boxes + rng.normal(0, 20, boxes.shape), 0, 255).astype(np.uint8)
    hexes = [None if i % 5 == 0 else f"#{i * 12:02X}40FF" for i in range(20)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert measure(pictures, hexes) == [one(*each) for each in zip(pictures, hexes, strict=True)]


def test_more_pictures_than_are_measured_at_once() -> None:
    pictures = np.stack([box(RED), box(BLUE)] * 200)
    assert measure(pictures, [None] * 400) == measure(pictures[:2], [None] * 2) * 200


def test_the_hash_is_that_of_imagehash_on_the_picture() -> None:
    file = io.BytesIO()
    Image.fromarray(box(RED)).save(file, "PNG")
    assert one(box(RED)).phash == str(imagehash.phash(Image.open(file)))


def test_pictures_and_colours_must_match() -> None:
    assert measure(np.empty((0, 64, 64, 3), np.uint8), []) == []
    with pytest.raises(ValueError, match="1 pictures, but 2 wanted colours"):
        measure(ground()[None], [None, None])


def test_an_outline_is_measured_where_the_shape_is_known() -> None:
    pictures = np.stack([box(RED, side=128), box(RED, side=128)])
    shape = Shape(product=box(RED, side=128)[..., 2] < 255, paper=None)
    assert [each.outline_seen for each in measure(pictures, [None] * 2, [shape, None])] == [1.0, None]
    with pytest.raises(ValueError, match="2 pictures, but 1 shapes"):
        measure(pictures, [None] * 2, [shape])


def test_mixed_colours_are_measured_where_the_lines_are_known() -> None:
    two = box(RED, side=128)
    product = two[..., 2] < 255
    two[:64][product[:64]] = BLUE
    shape = Shape(product=product, paper=product ^ ~binary_erosion(product))
    with_lines, without = measure(np.stack([two, two]), [None] * 2, [shape, shape._replace(paper=None)])
    assert with_lines.mixed_colours is not None
    assert with_lines.mixed_colours > 0.3
    assert without.mixed_colours is None


def test_measures_do_not_depend_on_batch_mates() -> None:
    rng = np.random.default_rng(1)
    colours = rng.integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
    pictures = colours.repeat(4, axis=1).repeat(4, axis=2)
    wanted = [f"#{number:06X}" for number in rng.integers(0, 2**24, 300)]
    alone = [one(picture, colour_hex) for picture, colour_hex in zip(pictures, wanted, strict=True)]
    assert measure(pictures, wanted) == alone
