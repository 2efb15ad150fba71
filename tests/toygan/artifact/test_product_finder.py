"""Finding and framing a product, with a network that takes everything red for the product."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.toygan.artifact.red_products import Red, picture
from toygan.artifact.mask_network_file import mask_network_file, read_mask_network
from toygan.artifact.product_finder import FRAME_SHARE, FramedSnapshot, ProductFinder, _cut, _main_part
from toygan.errors import ModelError
from toygan.models.mask_network import TRUNK_SIDE, MaskNetwork

CPU = torch.device("cpu")
SIDE = 128


FINDER = ProductFinder(network=Red(), device=CPU)  # type: ignore[arg-type]


def shown_box(framed: FramedSnapshot) -> tuple[int, int, int, int]:
    rows, columns = ((framed.pixels[..., 3] > 127).any(axis=axis).nonzero()[0] for axis in (1, 0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


@settings(max_examples=8, deadline=None)
@given(
    top=st.integers(20, 260), left=st.integers(20, 400), tall=st.integers(60, 180), wide=st.integers(60, 200)
)
def test_the_product_is_framed_as_in_studio_photos(top: int, left: int, tall: int, wide: int) -> None:
    framed = FINDER.frame(picture((top, left, tall, wide)), SIDE)
    assert framed.problems == ()
    assert abs(framed.own_pixels - max(tall, wide)) <= 6
    first_row, last_row, first_column, last_column = shown_box(framed)
    assert abs(max(last_row - first_row, last_column - first_column) - FRAME_SHARE * SIDE) <= 6
    assert abs(first_row + last_row - SIDE) <= 6
    assert abs(first_column + last_column - SIDE) <= 6
    square_top, square_left, side = framed.square
    assert abs(square_top + side / 2 - (top + tall / 2)) <= 3
    assert abs(square_left + side / 2 - (left + wide / 2)) <= 3
    assert abs(FRAME_SHARE * side - max(tall, wide)) <= 7


@settings(max_examples=12, deadline=None)
@given(
    top=st.integers(20, 280), left=st.integers(20, 400), tall=st.integers(80, 180), wide=st.integers(80, 200)
)
def test_the_mask_lies_on_the_pixels_of_the_product(top: int, left: int, tall: int, wide: int) -> None:
    """One pixel of the file has up to five pixels in the frame, so halves of pixels would show."""
    framed = FINDER.frame(picture((top, left, tall, wide)), 512)
    red = framed.pixels[..., 0] > 178  # as `Red` finds it
    edges = [
        [line.nonzero()[0][end] for line in (shown.any(axis=1), shown.any(axis=0)) for end in (0, -1)]
        for shown in (red, framed.pixels[..., 3] > 127)
    ]
    assert np.abs(np.subtract(*edges)).max() <= 1


def test_the_pixels_of_a_large_file_are_kept() -> None:
    """Stripes of three pixels, which no small copy of the picture could show."""
    pixels = picture((500, 700, 150, 150), height=1500, width=2000)
    pixels[500:650, 700:850][::6] = (150, 0, 0)
    framed = FINDER.frame(pixels, 512)
    column = framed.pixels[100:400, 256, 0].astype(int)
    assert column.max() - column.min() > 40


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(3, 90),
    width=st.integers(3, 90),
    centre=st.tuples(st.integers(-10, 100), st.integers(-10, 100)),
    side=st.integers(1, 150),
    resolution=st.integers(4, 40),
)
def test_a_square_beyond_the_picture_repeats_its_border(
    height: int, width: int, centre: tuple[int, int], side: int, resolution: int
) -> None:
    whole = torch.randint(256, (3, height, width), dtype=torch.uint8)
    cut = _cut(whole, centre, side, resolution)
    rows, columns = (
        torch.arange(round(middle - side / 2), round(middle - side / 2) + side).clamp(0, size - 1)
        for middle, size in zip(centre, (height, width), strict=True)
    )
    square = whole[:, rows[:, None], columns].float()[None]
    expected = F.interpolate(
        square, size=(resolution, resolution), mode="bicubic", antialias=True, align_corners=False
    )
    torch.testing.assert_close(cut, expected[0].clamp(0, 255), atol=0.01, rtol=0)


@pytest.mark.parametrize("turned", [False, True])
def test_a_long_narrow_picture_needs_no_square_of_its_length(
    turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    resized: list[int] = []
    interpolate = F.interpolate

    def counted(pixels: Tensor, **options: Any) -> Tensor:
        resized.append(pixels.numel())
        return interpolate(pixels, **options)

    monkeypatch.setattr(F, "interpolate", counted)
    pixels = picture((100, 4, 5800, 56), height=6000, width=64)
    framed = FINDER.frame(pixels.transpose(1, 0, 2).copy() if turned else pixels, 512)
    assert framed.own_pixels > 5000
    assert max(resized) < 3 * 7_000**2 / 8


@pytest.mark.parametrize(
    ("boxes", "problem"),
    [
        ((), "product_not_found"),
        (((200, 300, 8, 8),), "product_not_found"),
        (((150, 60, 150, 150), (150, 400, 140, 150)), "several_products"),
        (((100, 0, 200, 200),), "product_cut_off"),
        (((330, 200, 150, 200),), "product_cut_off"),
    ],
    ids=["nothing", "a speck", "two", "left edge", "lower edge"],
)
def test_a_find_that_a_person_should_see_has_a_reason(
    boxes: tuple[tuple[int, int, int, int], ...], problem: str
) -> None:
    assert problem in FINDER.frame(picture(*boxes), SIDE).problems


def test_a_second_look_that_differs_is_unclear() -> None:
    class Unsure(nn.Module):
        def forward(self, pictures: Tensor) -> Tensor:
            found: Tensor = Red()(pictures)
            if pictures.shape[-1] == SIDE:
                found[..., SIDE // 2 :, :] = -10
            return found

    finder = ProductFinder(network=Unsure(), device=CPU)  # type: ignore[arg-type]
    framed = finder.frame(picture((150, 200, 150, 200)), SIDE)
    assert "product_unclear" in framed.problems
    assert framed.doubt > 0.3


class Coarse(nn.Module):
    """Finds two pixels more around the product, where it looks at the whole picture."""

    def forward(self, pictures: Tensor) -> Tensor:
        found: Tensor = Red()(pictures)
        if pictures.shape[-1] == TRUNK_SIDE:
            found = F.max_pool2d(found, 5, stride=1, padding=2)
        return found


class OneSided(Coarse):
    """Loses a strip at the product's left side, where it looks at the part around the product."""

    def forward(self, pictures: Tensor) -> Tensor:
        found = super().forward(pictures)
        if pictures.shape[-1] == SIDE:
            found[..., : round(0.13 * SIDE)] = -10
        return found


@pytest.mark.parametrize(("network", "problems"), [(Coarse, ()), (OneSided, ("product_unclear",))])
def test_a_small_difference_is_decided_by_a_look_at_the_mirrored_picture(
    network: type[nn.Module], problems: tuple[str, ...]
) -> None:
    finder = ProductFinder(network=network(), device=CPU)  # type: ignore[arg-type]
    assert finder.frame(picture((150, 150, 150, 200)), SIDE).problems == problems


def test_a_snapshot_with_a_mask_stays_as_it_is() -> None:
    pixels = np.zeros((SIDE, SIDE, 4), dtype=np.uint8)
    pixels[20:100, 30:60, 3] = 255
    framed = FramedSnapshot.of(pixels)
    assert framed.pixels is pixels
    assert (framed.own_pixels, framed.problems) == (80, ())


def test_a_mask_network_survives_its_file() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = MaskNetwork().eval()
    again = read_mask_network(mask_network_file(network))
    shown = torch.zeros(1, 3, 256, 256)
    with torch.inference_mode():
        assert torch.allclose(network(shown), again(shown), atol=0.05)
    for read in (read_mask_network, lambda content: ProductFinder.from_file(content, CPU)):
        with pytest.raises(ModelError, match="the mask network cannot be read"):
            read(b"\x80 pickle")


def test_a_small_part_belongs_to_the_product_if_it_is_near() -> None:
    probabilities = torch.zeros(256, 256)
    probabilities[80:140, 80:160] = 1
    probabilities[143:150, 100:110] = 1  # a foot behind a shadow of three pixels
    probabilities[80:90, 180:190] = 1  # a piece of something else, farther away
    main, problems = _main_part(probabilities)
    assert main is not None
    assert problems == ()
    assert main[143:150, 100:110].all()
    assert not main[:, 170:].any()
    assert int(main.sum()) == 60 * 80 + 7 * 10


def test_two_large_parts_are_two_products_however_near() -> None:
    probabilities = torch.zeros(256, 256)
    probabilities[80:140, 80:160] = 1
    probabilities[80:140, 162:220] = 1
    main, problems = _main_part(probabilities)
    assert main is not None
    assert not main[:, 161:].any()
    assert problems == ("several_products",)
