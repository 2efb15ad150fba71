"""Colours that titles name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toygan.conditions.colour_names import MOST_NAMES, ColourNames
from toygan.errors import ModelError

NAMES = ColourNames(hexes={"red": "#B40000", "dark red": "#720012", "tan": "#D7BA8C"})
OTHERS = ColourNames(hexes={"k\u0131rm\u0131z\u0131": "#FF0000", "silver": "#C0C0C0"})


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
        ("Bag,, , blue,", ("Bag,, , blue,", ())),  # nothing is left out, nothing is changed
        ("1,000 bricks (red,tan), red lid", ("1,000 bricks (red,tan), lid", ("red",))),
        ("Box (open, red lid", ("Box (open, lid", ("red",))),  # brackets that nothing closes
        ("Toy, \u0130stanbul, tan", ("Toy, \u0130stanbul", ("tan",))),  # longer in lower case
        ("", ("", ())),
    ],
)
def test_parts_of_a_title_begin_with_colours(title: str, wanted: tuple[str, tuple[str, ...]]) -> None:
    assert NAMES.take(title) == wanted
    assert ColourNames().take(title) == (title, ())


@given(st.text() | st.lists(st.sampled_from([*"redTANk\u0131\u0130\u017f\u212a, &/-()1"])).map("".join))
def test_any_title_is_read_and_read_again_the_same(title: str) -> None:
    left, names = NAMES.take(title)
    assert set(names) <= NAMES.hexes.keys()
    if not names:
        assert left == title


@pytest.mark.parametrize("part", [",", "(", ", (red", "red and "])
def test_a_very_long_title_is_read_in_time(part: str) -> None:
    """The title has 300 kB. With quadratic work this would take many minutes."""
    title = part * (300_000 // len(part))
    left, names = NAMES.take(title)
    assert len(left) <= len(title)
    assert set(names) <= {"red"}


@pytest.mark.parametrize("title", ["KIRMIZI araba", "\u017filver car", "S\u0131lver", "\u212aIRMIZI"])
def test_letters_that_are_alike_but_for_their_case_are_not_the_same(title: str) -> None:
    assert OTHERS.take(title) == (title, ())
    assert OTHERS.take("K\u0131rm\u0131z\u0131 araba, Silver lid") == (
        "araba, lid",
        ("k\u0131rm\u0131z\u0131", "silver"),
    )


def test_names_are_learnt_from_pairs_of_name_and_colour() -> None:
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
    joined = ColourNames(hexes=kept).joined(OTHERS)
    assert joined.hexes == kept
    few = ColourNames(hexes=dict(list(kept.items())[1:]))
    assert len(few.joined(OTHERS).hexes) == MOST_NAMES
    assert ColourNames.from_json(few.joined(OTHERS).to_json()) == few.joined(OTHERS)


def test_what_a_model_says_is_checked() -> None:
    assert ColourNames.from_json(NAMES.to_json()) == NAMES
    assert ColourNames.from_json({"tan": "#d7ba8c"}).hexes == {"tan": "#D7BA8C"}
    for damaged in ([], {"Red": "#FF0000"}, {"red": 3}, {"": "#FF0000"}, {"red": "red"}):
        with pytest.raises(ModelError, match="colour_names"):
            ColourNames.from_json(damaged)
    with pytest.raises(ModelError, match="at most 1024"):
        ColourNames.from_json({f"colour {number}": "#000000" for number in range(MOST_NAMES + 1)})


def test_a_part_may_go_on_after_the_main_colour_was_taken() -> None:
    assert NAMES.take("Building set, and tan") == ("Building set", ("tan",))
    assert NAMES.take("Set, & tan and red, and so on") == ("Set, and so on", ("tan", "red"))
