from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from toygan.conditions.labelled_colours import LabelledColours
from toygan.data.recolour import draw_mixtures, mix_channels, mix_hex, shows_one_colour
from toygan.training.batches import step_rng

RGB = tuple[int, int, int]
WHITE: RGB = (255, 255, 255)
SHADOW: RGB = (180, 180, 180)
levels = st.integers(0, 255)
orders = st.tuples(*[st.integers(0, 2)] * 3)


def photo(*pixels: RGB) -> Tensor:
    """One row of pixels: (1, 3, 1, W) uint8."""
    return torch.tensor(pixels, dtype=torch.uint8).T[None, :, None, :]


def colour_hex(rgb: Sequence[int]) -> str:
    return "#" + bytes(rgb).hex().upper()


def mix(image: Tensor, main: str | None, order: Sequence[int]) -> tuple[Tensor, str | None]:
    """One photo, and its main colour then."""
    mixed, channels = mix_channels(image, [main], torch.tensor([order]))
    return mixed, main and mix_hex(main, channels[0].tolist())


def test_an_orange_product_turns_green_on_the_same_ground() -> None:
    orange, shaded = (200, 100, 0), (100, 50, 0)
    mixed, main = mix(photo(WHITE, orange, shaded, SHADOW), "#C86400", (2, 0, 1))
    assert main == "#00C864"
    assert torch.equal(mixed, photo(WHITE, (0, 200, 100), (0, 100, 50), SHADOW))


def test_a_channel_may_be_taken_twice() -> None:
    mixed, main = mix(photo((200, 100, 0)), "#C86400", (1, 1, 1))
    assert main == "#646464"
    assert torch.equal(mixed, photo((100, 100, 100)))


@given(rgb=st.tuples(levels, levels, levels), order=orders)
def test_what_is_shown_is_what_is_named(rgb: RGB, order: RGB) -> None:
    mixed, main = mix(photo(WHITE, rgb, SHADOW), colour_hex(rgb), order)
    shown = mixed[0, :, 0, 1].tolist()
    assert main == colour_hex(shown)
    if max(rgb) - min(rgb) > 32:
        assert shown == [rgb[channel] for channel in order]
    assert torch.equal(mixed[..., [0, 2]], photo(WHITE, SHADOW))


@pytest.mark.parametrize(
    ("pixels", "main", "is_one"),
    [
        ([(200, 100, 0)] * 20, "#C86400", True),
        ([(200, 100, 0)] * 20, None, False),
        ([(200, 100, 0)] * 20, "#0064C8", False),  # not what it says
        ([(90, 90, 90)] * 20, "#5A5A5A", False),
        ([(90, 90, 90)] * 20, "#C86400", False),  # a photo without any colour
        ([(200, 100, 0)] * 39 + [(0, 0, 200)], "#C86400", True),  # a speck of another
        ([(200, 100, 0)] * 18 + [(0, 0, 200)] * 2, "#C86400", False),
        ([(200, 100, 0)] * 10 + [SHADOW, WHITE, (20, 20, 20)] * 10, "#C86400", True),  # greys do not count
    ],
)
def test_of_one_colour_is_what_has_no_other(pixels: list[RGB], main: str | None, is_one: bool) -> None:
    images = photo(*pixels)
    assert shows_one_colour(images, [main]).tolist() == [is_one]
    mixed, after = mix(images, main, (1, 2, 0))
    assert (after == main) is not is_one
    assert torch.equal(mixed, images) is not is_one


def test_rows_are_mixed_on_their_own() -> None:
    images = torch.cat([photo((200, 100, 0)), photo((90, 90, 90)), photo((0, 0, 200))])
    mixed, channels = mix_channels(
        images, ["#C86400", "#5A5A5A", "#0000C8"], torch.tensor([[0, 1, 2], [2, 1, 0], [2, 1, 0]])
    )
    assert channels.tolist() == [[0, 1, 2], [0, 1, 2], [2, 1, 0]]
    assert mixed[:, :, 0, 0].tolist() == [[200, 100, 0], [90, 90, 90], [200, 0, 0]]


def test_mixtures_are_a_share_of_all_27() -> None:
    sampled = Counter(map(tuple, draw_mixtures(27_000, 0.5, step_rng(0, 0)).tolist()))
    assert len(sampled) == 27
    assert abs(sampled.pop((0, 1, 2)) - 14_000) < 350  # over four standard deviations, as below
    assert all(abs(count - 500) < 90 for count in sampled.values())
    assert set(map(tuple, draw_mixtures(50, 0.0, step_rng(0, 0)).tolist())) == {(0, 1, 2)}


def layouts(*labels: Sequence[int]) -> Tensor:
    return torch.tensor(labels, dtype=torch.uint8)[:, None, :]


def test_layouts_follow_their_colours() -> None:
    """Label 5 is of reds, 8 of greens; the black of the tyres, 1, stays."""
    colours = LabelledColours.of(
        ["#C80000", "#A00000", "#00C800", "#00A000", None],
        layouts([0, 5, 5], [0, 5, 5], [0, 8, 8], [8, 8, 8], [0, 1, 1]),
    )
    assert colours is not None
    before = layouts([0, 5, 1], [8, 8, 0], [5, 0, 0], [5, 0, 0])
    after = colours.relabel(
        before, ["#C80000", "#00A000", "#A00000", None], ["#10B010", "#FF0000", "#A00000", None]
    )
    assert torch.equal(after, layouts([0, 8, 1], [5, 5, 0], [5, 0, 0], [5, 0, 0]))
    assert torch.equal(before[0, 0], torch.tensor([0, 5, 1]))  # nobody else's labels change


def test_a_finish_is_no_colour() -> None:
    """Label 12 is of a red, a green and a blue, which are transparent: nothing opaque gets it."""
    hexes = [
        "#C80000",
        "#B40000",
        "#00C800",
        "#00B400",
        "#0000C8",
        "#0000B4",
        "#C80A00",
        "#00C80A",
        "#000AC8",
    ]
    labels = [5, 5, 8, 8, 9, 9, 12, 12, 12]
    colours = LabelledColours.of(hexes, layouts(*([0, label] for label in labels)))
    assert colours is not None
    assert set(colours.labels) == {5, 8, 9}
    changed = colours.relabel(layouts([0, 12], [0, 5]), ["#C80A00", "#C80000"], ["#00C80A", "#00C80A"])
    assert torch.equal(changed, layouts([0, 12], [0, 8]))


def test_photos_of_many_labels_say_nothing() -> None:
    assert LabelledColours.of(["#C80000"], layouts([0, 5, 8])) is None
    assert LabelledColours.of([None], layouts([0, 5, 5])) is None
    assert LabelledColours.of(["#C80000"], layouts([0, 0, 0])) is None


def test_colours_that_the_photos_do_not_show_keep_their_earlier_labels() -> None:
    red, dark_red, green = "#B40000", "#720012", "#00852B"
    layouts = torch.zeros((3, 4, 4), dtype=torch.uint8)
    layouts[0, 2], layouts[1, 2], layouts[2, 2] = 5, 5, 8
    new = LabelledColours.of([red], layouts[:1])
    earlier = LabelledColours.of([dark_red, green], layouts[1:])
    assert new is not None
    assert earlier is not None
    joined = new.joined(earlier)
    assert joined.labels == (5, 8, 5)
    assert new.joined(joined).labels == joined.labels
    assert joined.relabel(layouts[:1], [red], [green]).unique().tolist() == [0, 8]
    assert new.relabel(layouts[:1], [red], [green]).unique().tolist() == [0, 5]
