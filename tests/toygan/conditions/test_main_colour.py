import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toygan.conditions import colour_words
from toygan.conditions.colour_names import NO_COLOUR_NAMES, ColourNames
from toygan.conditions.colour_table import (
    CHINESE_MODIFIERS,
    COLOURS,
    ENGLISH_MODIFIERS,
    LAYOUT_LABELS,
    TRADITIONAL,
)
from toygan.conditions.colour_words import english_name
from toygan.conditions.main_colour import MainColour, MainColours

NAMES = ColourNames(
    hexes={
        "red": "#B40000",
        "dark red": "#720012",
        "light bluish grey": "#969696",
        "metallic dark grey": "#3E3C39",
        "dark bluish grey": "#646464",
        "bright light blue": "#9DC3F7",
        "medium azure": "#68C3E2",
        "trans red": "#C91A09",
        "lime": "#A5CA18",
        "black": "#1B2A34",
        "blue": "#1E5AA8",
        "ocean mist": "#7FA9B0",
    }
)
KNOWN = MainColours(NAMES)
TABLE = MainColours(NO_COLOUR_NAMES)


def of_title(title: str, finish: str | None = None) -> MainColour:
    return KNOWN.find(title=title, colour=None, colour_hex=None, finish=finish)


def of_column(colour: str, title: str = "Toy", finish: str | None = None) -> MainColour:
    return KNOWN.find(title=title, colour=colour, colour_hex=None, finish=finish)


def test_a_given_value_comes_before_every_name() -> None:
    found = KNOWN.find(title="Red car", colour="Blue", colour_hex="#00ff00", finish=None)
    assert found == MainColour(hex="#00FF00", name="Blue", source="colour_hex")


def test_the_column_comes_before_the_title() -> None:
    assert of_column("Blue", "Red car") == MainColour(hex="#1E5AA8", name="Blue", source="colour")
    assert of_column("Rainbow", "Red car") == MainColour(hex="#B40000", name="Red", source="title")


@pytest.mark.parametrize(
    ("title", "name", "value"),
    [
        ("Brick 2 x 4, Red", "Red", "#B40000"),
        ("Brick 2 x 4 - Dark Red", "Dark Red", "#720012"),
        ("Fire engine (red)", "red", "#B40000"),
        ("RED FIRE ENGINE", "RED", "#B40000"),
        ("Car, red body, black chassis", "red", "#B40000"),
        ("Building set, 5 layers, black and blue", "black", "#1B2A34"),
        ("Helmet with Blue Visor, Dark  Red", "Dark Red", "#720012"),
        ("Puppy with Blue Eyes and Black Nose, Lime", "Lime", "#A5CA18"),
        ("Gorilla figure, 30 cm, lime cap", "lime", "#A5CA18"),
        ("Vase, Ocean Mist", "Ocean Mist", "#7FA9B0"),
        ("Kite in blue", "blue", "#1E5AA8"),
        ("Ball: Red/Blue", "Red", "#B40000"),
        ("红色消防车", "红色", "#B40000"),
        ("消防车（深红色）", "深红色", "#720012"),
        ("消防車 紅色 20厘米", "紅色", "#B40000"),
        ("青柠绿小车", "青柠绿", "#A5CA18"),
        ("浅亮蓝色积木", "浅亮蓝色", "#9DC3F7"),
        ("中天蓝色积木", "中天蓝色", "#68C3E2"),
        ("深灰小象", "深灰", "#646464"),
    ],
)
def test_a_title_names_its_colour(title: str, name: str, value: str) -> None:
    assert of_title(title) == MainColour(hex=value, name=name, source="title")


@pytest.mark.parametrize(
    "title",
    [
        "Chicken with Red Comb",
        "Wheels for red cars",
        "Lime tree",
        "Olive oil bottle",
        "Blu-ray player",
        "Reddish",
        "Car, red-ish",
        "带红色轮子的小车",
        "小红帽公仔",
        "蓝牙音箱",
        "大白机器人",
        "彩色积木",
        "Teddy bear",
        "☃",
    ],
)
def test_a_title_without_a_main_colour_names_none(title: str) -> None:
    assert of_title(title) == MainColour()


@pytest.mark.parametrize(
    ("colour", "value"),
    [
        ("Red", "#B40000"),
        ("Red/Black", "#B40000"),
        ("Red & White", "#B40000"),
        ("红色/黑色", "#B40000"),
        ("Colour: dark red", "#720012"),
        ("#12ab34", "#12AB34"),
        ("Hot (#12AB34)", "#12AB34"),
        ("Steel Blue", "#4682B4"),
        ("Light-Blue", "#9DC3F7"),
        ("grey", "#969696"),
        ("gray", "#969696"),
        ("dark grey", "#646464"),
        ("sky blue", "#68C3E2"),
        ("Lime", "#A5CA18"),
        ("红", "#B40000"),
    ],
)
def test_the_column_names_a_colour(colour: str, value: str) -> None:
    assert of_column(colour) == MainColour(hex=value, name=colour, source="colour")


@pytest.mark.parametrize(
    "colour", ["", " ", "Multicolour", "mehrfarbig", "dunkel", "hellhölzern", "彩色", "Cherry", "12", "#12"]
)
def test_an_unknown_name_is_no_colour(colour: str) -> None:
    assert of_column(colour) == MainColour()


@pytest.mark.parametrize(
    ("colour", "english"),
    [
        ("Rot", "red"),
        ("ROUGE", "red"),
        ("roja", "red"),
        ("Schwarz/Weiß", "black"),
        ("Blau und Gelb", "blue"),
        ("bleu et blanc", "blue"),
        ("Dunkelrot", "dark red"),
        ("dunkel-rot", "dark red"),
        ("hell grau", "light grey"),
        ("transparentrot", "trans red"),
        ("rosso trasparente", "trans red"),
        ("bleu foncé", "dark blue"),
        ("azul claro", "light blue"),
        ("Lichtblauw", "light blue"),
    ],
)
def test_the_column_is_read_in_five_more_languages(colour: str, english: str) -> None:
    found = of_column(colour)
    assert found == MainColour(hex=of_column(english).hex, name=colour, source="colour")
    assert found.hex is not None


@pytest.mark.parametrize("title", ["Rot Rollo", "Car or truck", "Rose garden", "Wit and humour", "Noir"])
def test_a_title_is_not_read_in_these_languages(title: str) -> None:
    assert of_title(title) == MainColour()


def test_every_foreign_name_stands_for_a_colour_of_the_table() -> None:
    english = {name for each in COLOURS for name in each.english}
    names = " ".join(colour_words._NAMES.values()).split()
    assert len(names) == len(set(names))
    for name in names:
        assert english_name(name) in english
        assert TABLE.find(title="Toy", colour=name.title(), colour_hex=None, finish=None).hex


def test_a_transparent_product_has_the_transparent_colour() -> None:
    assert of_title("Red window", finish="transparent").hex == "#C91A09"
    assert of_column("Red", finish="transparent").hex == "#C91A09"
    assert of_column("Red", finish="chrome").hex == "#B40000"


def test_modifiers_change_a_colour_of_the_table() -> None:
    value = {name: TABLE.find(title="x", colour=name, colour_hex=None, finish=None).hex for name in (
        "green", "dark green", "light green", "pale green", "深绿色", "sand green"
    )}  # fmt: skip
    brightness = {name: sum(bytes.fromhex((hex_ or "#000000")[1:])) for name, hex_ in value.items()}
    assert brightness["dark green"] < brightness["green"] < brightness["light green"]
    assert value["light green"] == value["pale green"]
    assert value["深绿色"] == value["dark green"]
    assert value["sand green"] not in (None, value["green"])


def test_every_name_of_the_table_is_found_in_the_column() -> None:
    for each in COLOURS:
        assert each.label in LAYOUT_LABELS
        for name in (*each.english, *each.chinese):
            found = TABLE.find(title="x", colour=name.title(), colour_hex=None, finish=None)
            assert found.hex == each.hex, name


def test_every_name_of_the_table_is_found_in_a_title() -> None:
    for each in COLOURS:
        for name in each.english:
            assert TABLE.find(title=f"Toy, {name}", colour=None, colour_hex=None, finish=None).hex == each.hex
        for name in each.chinese:
            found = TABLE.find(title=f"{name}色小车", colour=None, colour_hex=None, finish=None)
            assert found.hex == each.hex, name


def test_no_name_stands_for_two_colours() -> None:
    for names in (
        [n for each in COLOURS for n in each.english],
        [n for each in COLOURS for n in each.chinese],
    ):
        assert len(names) == len(set(names))
    assert not set(TRADITIONAL.values()) & set(TRADITIONAL)


words = st.sampled_from(
    [
        *NAMES.hexes,
        *ENGLISH_MODIFIERS,
        *CHINESE_MODIFIERS,
        "红",
        "色",
        "car",
        ",",
        "(",
        "）",
        "with",
        "&",
        "İ",
        "ß",
        " ",
    ]
)


@settings(deadline=None)
@given(st.lists(words, max_size=12), st.sampled_from(["", " "]), st.none() | st.lists(words).map(" ".join))
def test_any_text_gives_a_value_with_its_name_or_nothing(
    title: list[str], gap: str, colour: str | None
) -> None:
    text = gap.join(title)
    found = KNOWN.find(title=text, colour=colour, colour_hex=None, finish=None)
    assert (found.hex is None) == (found.source is None) == (found.name is None)
    if found.source == "title":
        assert found.name is not None
        assert found.name.lower() in " ".join(text.lower().split())
