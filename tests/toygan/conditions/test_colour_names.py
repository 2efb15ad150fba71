"""Colours that titles name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toygan.conditions.colour_names import MOST_NAMES, ColourNames
from toygan.errors import ModelError

NAMES = ColourNames(hexes={"red": "#B40000", "dark red": "#720012", "tan": "#D7BA8C"})


@pytest.mark.parametrize(
    ("title", "wanted"),
    [
        ("Car, red body, Dark  Red chassis", ("Car, body, chassis", ("red", "dark red"))),
        ("Set, tan and red and dark red", ("Set", ("tan", "red", "dark red"))),
        ("Box, tan & red lid", ("Box, lid", ("tan", "red"))),
        ("Red box", ("box", ("red",))),
        ("Torso with red cross pattern", ("Torso with red cross pattern", ())),  # a detail
        ("Hat, red/white pattern", ("Hat, red/white pattern", ())),
        ("Hat, redder, red-hot, infrared", ("Hat, redder, red-hot, infrared", ())),
        ("Bag, red", ("Bag", ("red",))),
        ("Bag,, ,red,", ("Bag", ("red",))),
        ("", ("", ())),
    ],
)
def test_parts_of_a_title_begin_with_colours(title: str, wanted: tuple[str, tuple[str, ...]]) -> None:
    assert NAMES.take(title) == wanted
    assert ColourNames().take(title) == (title, ())


@given(st.text())
def test_any_title_is_read_and_read_again_the_same(title: str) -> None:
    left, names = NAMES.take(title)
    assert set(names) <= NAMES.hexes.keys()
    assert len(left) <= len(title) + title.count(",")  # a space after each comma
    if not names:
        assert NAMES.take(left) == (left, ())


def test_names_are_learnt_from_what_is_called_so() -> None:
    found = ColourNames.of(
        [
            *[("Dark  Red", "#720012"), ("dark red", "#720012"), ("DARK RED", "#000000")],
            *[("Tan", None), (None, "#FFFFFF"), (" ", "#FFFFFF"), ("c++", "#00ff00")],
        ]
    )
    assert found.hexes == {"dark red": "#720012", "c++": "#00FF00"}
    assert found.take("Box, C++ lid") == ("Box, lid", ("c++",))
    assert found.joined(NAMES).hexes == {**NAMES.hexes, "c++": "#00FF00"}
    assert ColourNames.of([("one", "#000002"), ("one", "#000001")]).hexes == {"one": "#000001"}


def test_of_too_many_names_the_frequent_ones_are_kept() -> None:
    rare = [(f"colour {number}", "#000000") for number in range(MOST_NAMES)]
    kept = ColourNames.of([*rare, ("red", "#FF0000"), ("red", "#FF0000")]).hexes
    assert len(kept) == MOST_NAMES
    assert kept["red"] == "#FF0000"


def test_what_a_model_says_is_checked() -> None:
    assert ColourNames.from_json(NAMES.to_json()) == NAMES
    for damaged in ([], {"Red": "#FF0000"}, {"red": 3}, {"": "#FF0000"}, {"red": "red"}):
        with pytest.raises(ModelError, match="colour_names"):
            ColourNames.from_json(damaged)
    with pytest.raises(ModelError, match="at most 1024"):
        ColourNames.from_json({f"colour {number}": "#000000" for number in range(MOST_NAMES + 1)})
