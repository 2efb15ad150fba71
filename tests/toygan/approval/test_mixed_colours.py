import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.color import lab2rgb

from toygan.approval.mixed_colours import FAR, FEWEST_PIXELS, mixed_colours

SIDE = 128
YELLOW, GREEN = (250, 200, 10), (0, 133, 43)


def frame(first: int = 31, last: int = 96) -> NDArray[np.bool_]:
    """Paper with the outline of a square, whose inside is `last - first - 1` pixels wide."""
    paper = np.ones((SIDE, SIDE), dtype=bool)
    paper[first, first : last + 1] = paper[last, first : last + 1] = False
    paper[first : last + 1, first] = paper[first : last + 1, last] = False
    return paper


def picture(colour: tuple[int, int, int] = YELLOW) -> NDArray[np.uint8]:
    return np.tile(np.array(colour, dtype=np.uint8), (SIDE, SIDE, 1))


def in_lab(lightness: float, a: float, b: float) -> NDArray[np.uint8]:
    rgb = lab2rgb(np.array([[[lightness, a, b]]], dtype=np.float64))
    return np.asarray(np.round(255 * rgb[0, 0]), dtype=np.uint8)


def test_an_area_of_one_colour_is_not_mixed() -> None:
    assert mixed_colours(picture(), frame()) == 0.0


def test_the_share_of_the_other_colour_counts() -> None:
    mixed = picture()
    mixed[32:42, 32:52] = GREEN
    # 200 of the 64 x 64 pixels inside and the 4 x 65 of the outline
    assert mixed_colours(mixed, frame()) == round(200 / (64**2 + 4 * 65), 4)


def test_a_line_between_two_colours_parts_them() -> None:
    halves, paper = picture(), frame()
    halves[:, 70:] = GREEN
    paper[31:97, 70] = False
    assert mixed_colours(halves, paper) == 0.0
    assert mixed_colours(halves, frame()) == pytest.approx(26 * 64 / (64**2 + 4 * 65), abs=1e-4)


@pytest.mark.parametrize("lightness", [20, 60, 90])
def test_light_and_shadow_are_no_other_colour(lightness: float) -> None:
    shaded = np.tile(in_lab(55, 0, 50), (SIDE, SIDE, 1))
    shaded[32:62, 32:62] = in_lab(lightness, 0, 25)
    assert mixed_colours(shaded, frame()) == 0.0


@pytest.mark.parametrize(("across", "others"), [(FAR - 3, 0), (FAR + 3, 900)])
def test_a_colour_is_another_one_from_a_distance_on(across: float, others: int) -> None:
    hues = np.tile(in_lab(55, 0, 50), (SIDE, SIDE, 1))
    hues[32:62, 32:62] = in_lab(55, across, 50)
    assert mixed_colours(hues, frame()) == round(others / (64**2 + 4 * 65), 4)


def test_a_grey_area_shows_any_colour() -> None:
    tinted = np.tile(in_lab(55, 0, 0), (SIDE, SIDE, 1))
    tinted[32:42, 32:52] = in_lab(55, 0, FAR + 3)
    assert mixed_colours(tinted, frame()) == round(200 / (64**2 + 4 * 65), 4)


def test_what_is_around_the_product_does_not_count() -> None:
    around = picture()
    around[:31] = GREEN
    assert mixed_colours(around, frame()) == 0.0


def test_a_small_area_does_not_count() -> None:
    side = int(FEWEST_PIXELS**0.5)
    paper, mixed = frame(60, 60 + side + 1), picture()
    mixed[61, 61] = GREEN
    assert mixed_colours(mixed, paper) == 0.0


def test_without_closed_lines_nothing_is_measured() -> None:
    opened = frame()
    opened[31, 60:64] = True
    assert mixed_colours(picture(), opened) is None


def test_a_large_picture_is_measured_like_a_small_one() -> None:
    mixed = picture()
    mixed[32:42, 32:52] = GREEN
    assert mixed_colours(mixed.repeat(4, axis=0).repeat(4, axis=1), frame()) == mixed_colours(mixed, frame())
