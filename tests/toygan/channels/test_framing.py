"""Where a product stands in its frame."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.toygan.channels.shop import BOX, layout_of, toy
from toygan.channels.cutout import Box, NotCutOut, cut_out
from toygan.channels.framing import TooSmall, compose, place
from toygan.channels.rules import Frame, channel_names, load_channel

FRAMES = [frame for name in channel_names() for frame in load_channel(name).frames]


@settings(deadline=None)
@given(st.sampled_from(FRAMES), st.integers(8, 4000), st.integers(8, 4000))
def test_a_placed_product_keeps_to_the_rules_and_is_never_enlarged(
    frame: Frame, width: int, height: int
) -> None:
    try:
        placed = place(Box(0, 0, width, height), frame)
    except TooSmall:
        wide, high = frame.safe_aspect or frame.aspect
        long = max(frame.aspect)
        safe = min(frame.aspect[0] / wide, frame.aspect[1] / high)
        most = max(width / (wide * safe / long), height / (high * safe / long)) / frame.share.least
        assert most < frame.size.least + 1
        return
    assert 0 < placed.scale <= 1
    assert frame.share.least - 0.01 <= placed.share <= frame.share.most + 1e-9
    longest = max(placed.width, placed.height)
    assert frame.size.least - 1 <= longest <= frame.size.advised
    assert width * placed.scale <= placed.width
    assert height * placed.scale <= placed.height
    assert placed.below_advised == (longest < frame.size.advised)


@settings(deadline=None)
@given(st.sampled_from([frame for frame in FRAMES if frame.ground == "white"]))
def test_a_product_that_is_not_reduced_keeps_its_pixels(frame: Frame) -> None:
    pixels = toy("#1450C8")
    cutout = cut_out(pixels, layout_of())
    placed = place(cutout.box, frame)
    assume(placed.scale == 1)
    made = np.asarray(compose(cutout, frame, placed))
    left, top = (placed.width - cutout.box.width) / 2, (placed.height - cutout.box.height) / 2
    left, top = round(cutout.box.left - left), round(cutout.box.top - top)
    inside = slice(BOX[1] + 90, BOX[3] - 10), slice(BOX[0] + 10, BOX[2] - 10)
    there = (
        slice(inside[0].start - top, inside[0].stop - top),
        slice(inside[1].start - left, inside[1].stop - left),
    )
    moved = [
        np.array_equal(np.roll(made, (dy, dx), (0, 1))[there], pixels[inside])
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    ]
    assert any(moved)


def test_a_cutout_on_another_ground_has_no_white_rim() -> None:
    cutout = cut_out(toy("#101010", shadow=False), layout_of())
    (frame,) = (each for each in load_channel("web").frames if each.ground == "transparent")
    made = np.asarray(compose(cutout, frame, place(cutout.box, frame))).astype(float)
    colours, opacity = made[..., :3], made[..., 3]
    seen = opacity > 40
    assert (opacity[seen] < 255).any()
    assert colours[seen].max() < 60


def test_a_layout_of_another_size_is_scaled() -> None:
    whole = cut_out(toy(), layout_of()).box
    small = cut_out(toy(), layout_of()[::4, ::4]).box
    assert max(abs(one - other) for one, other in zip(whole, small, strict=True)) <= 4


def test_the_measures_find_the_same_box_as_the_layout() -> None:
    found, given_ = cut_out(toy()).box, cut_out(toy(), layout_of()).box
    assert max(abs(one - other) for one, other in zip(found, given_, strict=True)) <= 2


def test_a_channel_without_shadows_gets_none_even_a_coloured_one() -> None:
    pixels = toy(shadow=False).copy()
    rows, columns = np.ogrid[:512, :512]
    below = ((rows - 440) / 40) ** 2 + ((columns - 256) / 250) ** 2 < 1
    pixels[below & (pixels.min(axis=2) == 255)] = (250, 220, 210)
    cutout = cut_out(pixels)
    (frame,) = load_channel("amazon").frames
    made = np.asarray(compose(cutout, frame, place(cutout.box, frame)))
    assert (made[-20:] == 255).all()


def test_a_dark_shadow_is_no_part_of_the_product() -> None:
    pixels = toy(shadow=False).copy()
    pixels[BOX[3] : BOX[3] + 40, 60:450] = np.minimum(255, 150 + 3 * np.arange(40))[:, None, None]
    cutout = cut_out(pixels)
    assert cutout.box.bottom <= BOX[3] + 2
    assert not np.asarray(cutout.whole)[BOX[3] + 2 :].any()


@pytest.mark.parametrize("colour", ["#A0A0A0", "#C0C0C0", "#E4CD9E"])
def test_a_grey_or_pale_product_stays_whole(colour: str) -> None:
    found, exact = (np.asarray(cut_out(toy(colour), each).core) > 0 for each in (None, layout_of()))
    assert (found & exact).sum() > 0.97 * exact.sum()


def test_grey_parts_below_stay_if_there_are_grey_parts_above() -> None:
    pixels = toy(shadow=False).copy()
    for rows in (slice(140, 220), slice(400, BOX[3])):
        pixels[rows, BOX[0] : BOX[2]] = (160, 165, 169)
    assert cut_out(pixels).box.bottom >= BOX[3] - 1


def test_ground_between_parts_of_a_product_is_no_part_of_it() -> None:
    pixels = toy(shadow=False).copy()
    pixels[225:250, 330 : BOX[2]] = 255
    pixels[225:240, 440 : BOX[2]] = pixels[300, 300]  # a hook that leaves a small opening below it
    cutout = cut_out(pixels)
    assert cutout.suits_any_ground
    assert not np.asarray(cutout.core)[228:247, 334:436].any()


def test_a_product_with_a_hole_stands_on_white() -> None:
    pixels = toy(shadow=False).copy()
    pixels[240:275, 200:240] = 255
    cutout = cut_out(pixels)
    assert cutout.is_sure
    assert not cutout.suits_any_ground
    (square, _), (amazon,) = load_channel("instagram").frames, load_channel("amazon").frames
    for frame in (square, amazon):
        assert (np.asarray(compose(cutout, frame, place(cutout.box, frame)))[0, 0] == 255).all()
    (transparent,) = (each for each in load_channel("web").frames if each.ground == "transparent")
    with pytest.raises(NotCutOut, match="outline_unsure"):
        compose(cutout, transparent, place(cutout.box, transparent))


def test_a_pale_window_stays_where_no_shadow_is_allowed() -> None:
    pixels, glass = toy(shadow=False).copy(), (205, 225, 240)
    pixels[170:290, 100:300] = glass
    cutout = cut_out(pixels)
    (frame,) = load_channel("amazon").frames
    made = np.asarray(compose(cutout, frame, place(cutout.box, frame)))
    assert (np.abs(made.astype(int) - glass).max(axis=2) < 12).sum() > 0.95 * 120 * 200
