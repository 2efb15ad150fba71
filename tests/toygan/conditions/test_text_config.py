"""The selection of the texts that a model is given."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toygan.conditions.colour_names import ColourNames
from toygan.conditions.text_config import TextConfig, TextFields, product_text

RED, DARK_RED, TAN, BLUE = "#B40000", "#720012", "#D7BA8C", "#1E5AA8"
NAMES = ColourNames(hexes={"red": RED, "dark red": DARK_RED, "tan": TAN, "blue": BLUE})
ACCENTS = TextConfig(accent_colours=2, colour_names=NAMES)


@pytest.mark.parametrize(
    ("title", "description", "wanted"),
    [
        ("Red car", "Small toy car.", "Red car Small toy car."),
        ("  Red\tcar \n", None, "Red car"),
        (None, "Small  toy\u3000car.", "Small toy car."),
        ("红色小车", "", "红色小车"),
        ("", " ", None),
        (None, None, None),
    ],
)
def test_title_finish_and_description_are_joined(
    title: str | None, description: str | None, wanted: str | None
) -> None:
    assert product_text(title, description) == wanted


@pytest.mark.parametrize(
    ("title", "colour", "finish", "wanted"),
    [
        ("Animal Rat Standing, Green", "Green", "solid", "Animal Rat Standing"),
        ("Plant Flower Stem Green, Green", "Green", None, "Plant Flower Stem Green"),
        ("Car, bright pink body, grey chassis", "Bright Pink", None, "Car body, grey chassis"),
        ("Red and red again", "red", None, "and red again"),
        ("Redwood box (Red)", "Red", "solid", "Redwood box"),
        ("Brick 1 x 2, Trans Light Blue", "Trans Light Blue", "transparent", "Brick 1 x 2, transparent"),
        ("Red", "Red", None, None),
        ("Red", "Red", "chrome", "chrome"),
        ("Lamp (a+b)", "a+b", None, "Lamp"),
        ("Brick (Red/Blue)", "Red", None, "Brick (Red/Blue)"),
        ("Red-Eyed Frog", "Red", None, "Red-Eyed Frog"),
        ("Cup, trans-red", "Red", None, "Cup, trans-red"),
        ("Brick, 1 x 2", " ", None, "Brick, 1 x 2"),
        ("红色小车", "Red", None, "红色小车"),
    ],
)
def test_the_main_colour_is_left_to_its_own_condition(
    title: str, colour: str, finish: str | None, wanted: str | None
) -> None:
    assert product_text(title, colour=colour, finish=finish) == wanted


@given(st.sampled_from(["Sand Green", "Red", "C++"]), st.sampled_from(["Red", "Dark Red", "Blue"]))
def test_a_product_has_the_same_text_in_every_colour(first: str, second: str) -> None:
    title = "Plant Red Flower Stem with Bar"
    texts = {product_text(f"{title}, {colour}", colour=colour) for colour in (first, second)}
    assert texts == {title}


@given(st.text(), st.text())
def test_white_space_says_nothing(title: str, description: str) -> None:
    text = product_text(title, description)
    assert text == product_text(f"\n{title} ", f" {description}\t") == product_text(text, None)
    assert text is None or text == " ".join(text.split())


def words(text: str | None, *accent_hexes: str) -> TextFields:
    """A product without a finish."""
    return TextFields(text=text, shape_text=text, accent_hexes=accent_hexes)


@pytest.mark.parametrize(
    ("title", "colour", "colour_hex", "wanted"),
    [
        ("Minifigure, red torso with tan belt, dark red legs, tan hat", "Red", RED,
         words("Minifigure, torso with tan belt, legs, hat", DARK_RED, TAN)),
        ("Building set, 4 layers, tan and red and blue and dark red", "Tan", TAN,
         words("Building set, 4 layers", RED, BLUE)),  # two at most
        ("Car, red body, red roof", "Red", RED, words("Car, body, roof", RED)),
        ("Car, red body", "Scarlet", RED, words("Car, body")),  # by its value
        ("Car, red body, tan roof", "Red", None, words("Car, body, roof", RED, TAN)),
        ("Tyre, Red", "Red", RED, words("Tyre")),
        ("Green tyre, blue", "Green", "#00852B", words("tyre", BLUE)),
        ("Torso with red cross pattern, Red", "Red", RED, words("Torso with red cross pattern")),
        ("Red torso with red cross pattern", "Red", RED, words("torso with red cross pattern")),
        ("Torso with red cross pattern", "Red", RED, words("Torso with cross pattern")),  # as ever
        (None, "Red", RED, words(None)),
    ],
)  # fmt: skip
def test_colours_beside_the_main_one_are_accents(
    title: str | None, colour: str, colour_hex: str | None, wanted: TextFields
) -> None:
    assert ACCENTS.words(title, None, colour=colour, colour_hex=colour_hex, finish="solid") == wanted


@given(st.sampled_from([("Red", RED), ("Dark Red", DARK_RED), ("Blue", BLUE)]))
def test_a_product_has_the_same_words_in_every_colour(main: tuple[str, str]) -> None:
    name, value = main
    fields = ACCENTS.words(f"Torso with red cross, {name}, tan legs", None, colour=name, colour_hex=value)
    assert fields == words("Torso with red cross, legs", TAN)


def test_without_accents_they_stay_in_the_text() -> None:
    title = "Car, red body, tan roof"
    for text_config in (TextConfig(colour_names=NAMES), TextConfig(accent_colours=2)):
        fields = text_config.words(title, None, colour="Red", colour_hex=RED)
        assert fields == words("Car body, tan roof")


@given(
    st.none() | st.text() | st.just("Torso, Red, tan legs"),
    st.none() | st.text(),
    st.sampled_from([ACCENTS, TextConfig(), TextConfig(descriptions=False), TextConfig(whole_titles=True)]),
    st.sampled_from(["chrome", "transparent", "solid", None]),
)
def test_the_shape_text_is_the_same_in_every_finish(
    title: str | None, description: str | None, text_config: TextConfig, finish: str | None
) -> None:
    """Without a finish the text is the shape text. A config with whole titles adds no finish."""
    plain, finished = (
        text_config.words(title, description, colour="Red", colour_hex=RED, finish=each)
        for each in (None, finish)
    )
    assert plain.shape_text == plain.text == finished.shape_text
    has_finish = finish not in ("solid", None) and not text_config.whole_titles
    assert (finished.text != finished.shape_text) == has_finish
    assert not has_finish or str(finish) in str(finished.text)


def test_texts_are_the_same_apart_from_colour_names() -> None:
    assert not TextConfig(whole_titles=True).has_same_text_as(ACCENTS)
    assert ACCENTS.has_same_text_as(TextConfig(accent_colours=1))
