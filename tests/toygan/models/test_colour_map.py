"""Colours painted on the layout that says where they are."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from toygan.conditions.colour import encode_accents, encode_colours
from toygan.models.colour_map import MAX_COLOURS, ColourMap
from toygan.models.layers import SilentConv2d

# Label 1 is of reds, 2 of greens; 3 is what no colour has, glass say.
FAMILIES = {"#B40000": 1, "#720012": 1, "#00852B": 2, "#00451A": 2}
NOTHING = [0.0] * 4


def colour_map() -> ColourMap:
    module = ColourMap()
    module.fit(encode_colours(list(FAMILIES)), torch.tensor(list(FAMILIES.values())))
    return module


def given_colours(main: str | None, *accents: str) -> Tensor:
    """One product's colours, with room for two accents: (1, 3, 4)."""
    return torch.cat([encode_colours([main]), encode_accents([accents], 2)], dim=1).view(1, 3, 4)


def painted(layout: list[int], colours: Tensor) -> list[list[float]]:
    """Of a layout of one row, the colours at its pixels."""
    found: list[list[float]] = colour_map()(torch.tensor([[layout]]), colours)[0, :, 0].T.tolist()
    return found


def of(colour_hex: str) -> list[float]:
    values: list[float] = encode_colours([colour_hex])[0].tolist()
    return values


def test_each_colour_is_painted_on_its_family() -> None:
    found = painted([0, 1, 2, 3, 1], given_colours("#00451A", "#720012"))
    assert found == [NOTHING, of("#720012"), of("#00451A"), NOTHING, of("#720012")]


def test_a_colour_that_was_never_seen_belongs_to_the_nearest() -> None:
    assert painted([1, 2], given_colours("#FF2020")) == [of("#FF2020"), NOTHING]


def test_of_two_colours_of_one_family_the_first_counts() -> None:
    assert painted([1], given_colours("#720012", "#B40000")) == [of("#720012")]
    assert painted([1, 2], given_colours(None, "#B40000", "#720012")) == [of("#B40000"), NOTHING]


def test_a_main_colour_without_its_label_is_that_of_glass() -> None:
    red = of("#B40000")
    assert painted([0, 3, 3, 2], given_colours("#B40000")) == [NOTHING, red, red, NOTHING]
    assert painted([3, 3, 2], given_colours("#00852B", "#B40000")) == [NOTHING, NOTHING, of("#00852B")]


def test_labels_are_those_of_the_named_colours() -> None:
    """What is painted may be nearer to another family: here a dark red is corrected to a dark green."""
    layout = torch.tensor([[[0, 1, 2]]])
    named, corrected = given_colours("#720012", "#00852B"), given_colours("#00451A", "#00852B")
    found = colour_map()(layout, corrected, named)[0, :, 0].T.tolist()
    assert found == [NOTHING, of("#00451A"), of("#00852B")]
    assert painted([0, 1, 2], corrected) == [NOTHING, NOTHING, of("#00451A")]
    assert colour_map()(layout, named, named).equal(colour_map()(layout, named))


def test_a_recoloured_product_keeps_its_windows() -> None:
    """What was red is green on this layout: its window does not turn red for that."""
    assert painted([0, 2, 3], given_colours("#B40000")) == [NOTHING] * 3


def test_without_any_colour_nothing_is_painted() -> None:
    layout = torch.randint(4, (2, 8, 8))
    assert not colour_map()(layout, torch.zeros(2, 3, 4)).any()
    fresh = ColourMap()
    assert not fresh(
        torch.zeros(1, 8, 8, dtype=torch.int64), given_colours("#B40000")
    ).any()  # the ground stays


@given(st.integers(1, 2 * MAX_COLOURS))
def test_the_number_of_kept_colours_is_limited(count: int) -> None:
    module = ColourMap()
    module.fit(torch.rand(count, 4), torch.ones(count, dtype=torch.int64))
    assert int(module.labels.sum()) == min(count, MAX_COLOURS)


@given(st.lists(st.integers(1, 9), min_size=MAX_COLOURS + 1, max_size=2 * MAX_COLOURS))
@pytest.mark.slow
def test_of_too_many_colours_every_label_keeps_some(labels: list[int]) -> None:
    module = ColourMap()
    colours = torch.arange(len(labels)).float()[:, None].expand(-1, 4)
    module.fit(colours, torch.tensor(labels))
    assert set(module.labels.tolist()) == set(labels)
    kept = module.colours[:, 0].long()
    assert module.labels.tolist() == [labels[row] for row in kept]
    assert len(set(kept.tolist())) == MAX_COLOURS


def test_the_painted_map_has_no_effect_at_first() -> None:
    layer = SilentConv2d(4, 5, "replicate", "colour_map")
    assert layer(torch.rand(2, 4, 8, 8)).shape == (2, 5, 8, 8)
    assert not layer(torch.rand(2, 4, 8, 8)).any()
