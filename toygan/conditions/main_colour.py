"""Finds the main colour of a product if its row names a colour but gives no value `#RRGGBB`.

The value of a name comes from the first of these sources that has the name:

1. the names in the model's photos;
2. `colour_table`. If the model has nearly the same colour under a longer name, the model's colour is taken
   instead: for "grey", the model's "light bluish grey";
3. `colour_words`, names in other languages, but only for the column `colour`;
4. the colour names of CSS, but only for the column `colour`.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from toygan.conditions.colour_names import ColourNames, normal_name
from toygan.conditions.colour_table import (
    CHINESE_DEPTHS,
    CHINESE_MODIFIERS,
    COLOURS,
    ENGLISH_MODIFIERS,
    FINISH_WORDS,
    THINGS,
    TRADITIONAL,
)
from toygan.conditions.colour_words import english_name

ColourSource = Literal["colour_hex", "colour", "title"]

# A colour of the table is replaced by a colour of the model with a longer name if their CIEDE2000 is at most
# this.
NEARLY_THE_SAME: Final = 15.0

_HEX = re.compile(r"#[0-9A-Fa-f]{6}(?![0-9A-Za-z])")
_PARTS = re.compile(r"(?<!\d),|,(?!\d)|[，、；;:：|()\[\]（）【】{}]|\s[-–—]+\s")
_LIST = r"\s*(?:\band\b|&|/|\+|和|与|及)\s*"
_OTHER_LIST = r"\s(?:und|et|y|e|en)\s"  # the "and" of the languages of `colour_words`
_SAYS_COLOUR = re.compile(r"^(?:main )?(?:colou?r|颜色)\s*[:：=]?\s*| colou?r$")
# From one of these words on, a title describes details, not the product's main colour.
_DETAIL = re.compile(
    r"(?<!\w)(?:with|without|w/|for|on|from|of|featuring|including|incl|plus)(?!\w)|带|配|含|附|送|适用|用于"
)
_CHINESE = re.compile(r"[\u3400-\u9fff]")
_BLUE, _RED, _YELLOW, _GREEN = (-5.0, -30.0), (45.0, 25.0), (0.0, 45.0), (-35.0, 20.0)
_TINTS: Final = {"bluish": _BLUE, "reddish": _RED, "yellowish": _YELLOW, "greenish": _GREEN}


@dataclass(frozen=True, kw_only=True)
class MainColour:
    """The main colour of a product. All fields are None if the colour is unknown."""

    hex: str | None = None  # ##RRGGBB in upper case
    name: str | None = None  # the colour's name as written in the row
    source: ColourSource | None = None  # the column that the colour comes from


@dataclass(frozen=True)
class _Phrase:
    """The parts of a colour's name: "light bluish grey" has the base grey, the modifiers light and bluish."""

    base: str
    modifiers: frozenset[str]


class MainColours:
    """Finds main colours, using the names of a model."""

    def __init__(self, names: ColourNames) -> None:
        self._names = names
        self._known = {_take_apart(name): value for name, value in names.hexes.items()}
        self._find_value = lru_cache(maxsize=4096)(self._value)

    def find(
        self, *, title: str, colour: str | None, colour_hex: str | None, finish: str | None
    ) -> MainColour:
        """Finds the main colour of a row: from `colour_hex`, else from `colour`, else from the title."""
        if colour_hex is not None:
            return MainColour(hex=colour_hex.upper(), name=colour, source="colour_hex")
        transparent = finish == "transparent"
        if colour and (value := self._of_column(colour, transparent)):
            return MainColour(hex=value, name=colour, source="colour")
        name = self._in_title(title)
        if name is not None and (value := self._find_value(name, transparent)):
            return MainColour(hex=value, name=name, source="title")
        return MainColour()

    def _of_column(self, colour: str, transparent: bool) -> str | None:
        """Returns the value of the first colour in the column `colour`."""
        if found := _HEX.search(colour):
            return found[0].upper()
        text = _readable(colour)
        if text in self._names.hexes:
            return self._find_value(text, transparent)
        first = re.split(rf"{_LIST}|{_OTHER_LIST}|[,，、;；|]", _SAYS_COLOUR.sub("", text))[0].strip()
        if first in self._names.hexes or self._whole.fullmatch(first):
            return self._find_value(first, transparent)
        if english := english_name(first):
            return self._find_value(english, transparent)
        return _css(first)

    def _in_title(self, title: str) -> str | None:
        """Returns the main colour's name in a title, as it is written there.

        Takes the first of three that it finds: a part that consists of colours only, the colour at the
        beginning of a part, or any colour outside details.
        """
        text = _readable(title)
        parts = list(_parts_of(text))
        found = self._whole_part(text, parts) or self._beginning(text, parts) or self._mention(text, parts)
        if found is None:
            return None
        # If lower case changes the title's length, positions in the lower-case title are wrong in the title.
        # Then the name is returned in lower case.
        one_to_one = " ".join(title.split())
        return one_to_one[found[0] : found[1]] if len(one_to_one) == len(text) else text[found[0] : found[1]]

    def _whole_part(self, text: str, parts: list[tuple[int, int]]) -> tuple[int, int] | None:
        """Finds the last sequence of parts that are colours, and returns its first colour."""
        chosen = None
        previous = False
        for start, end in parts:
            is_colour = bool(self._list.fullmatch(text, start, end))
            if is_colour and not previous and (led := self._whole.match(text, start, end)):
                chosen = led.span()
            previous = is_colour
        return chosen

    def _beginning(self, text: str, parts: list[tuple[int, int]]) -> tuple[int, int] | None:
        for number, (start, end) in enumerate(parts):
            led = self._inside.match(text, start, end)
            if led and not (number == 0 and led[0] in THINGS):
                return led.span()
        return None

    def _mention(self, text: str, parts: list[tuple[int, int]]) -> tuple[int, int] | None:
        for start, end in parts:
            detail = _DETAIL.search(text, start, end)
            for found in self._inside.finditer(text, start, detail.start() if detail else end):
                if found[0] not in THINGS:
                    return found.span()
        return None

    def _value(self, name: str, transparent: bool) -> str | None:
        name = _readable(name)
        if not transparent and name in self._names.hexes:
            return self._names.hexes[name]
        phrase = _take_apart(name)
        if transparent:
            clear = _Phrase(phrase.base, phrase.modifiers | {"trans"})
            if clear in self._known:
                return self._known[clear]
        if phrase in self._known:
            return self._known[phrase]
        base = _BASES.get(phrase.base) or self._known.get(_Phrase(phrase.base, frozenset()))
        if base is None:
            return None
        value = _changed(base, phrase.modifiers)
        return self._near(phrase, value) or value

    def _near(self, phrase: _Phrase, value: str) -> str | None:
        """Returns the nearest of the model's colours that the phrase may mean.

        Returns None if all are too far.
        """
        finish = phrase.modifiers & FINISH_WORDS
        meant = [
            hex_
            for other, hex_ in self._known.items()
            if other.base == phrase.base
            and other.modifiers > phrase.modifiers
            and other.modifiers & FINISH_WORDS == finish
        ]
        distances = [_distance(value, hex_) for hex_ in meant]
        if not distances or min(distances) > NEARLY_THE_SAME:
            return None
        return meant[distances.index(min(distances))]

    @cached_property
    def _whole(self) -> re.Pattern[str]:
        return re.compile(f"(?:{self._english}|{_chinese(needs_ending=False)})")

    @cached_property
    def _inside(self) -> re.Pattern[str]:
        return re.compile(f"(?:{self._english}|{_chinese(needs_ending=True)})")

    @cached_property
    def _list(self) -> re.Pattern[str]:
        one = self._whole.pattern
        return re.compile(rf"(?:in )?{one}(?:{_LIST}{one})*(?: colou?r)?")

    @cached_property
    def _english(self) -> str:
        """A pattern that matches names as whole words: names of the model, and names of the table with or
        without modifiers.
        """
        bases = _alternatives(name for each in COLOURS for name in each.english)
        own = _alternatives(self._names.hexes) if self._names.hexes else "(?!)"
        modifiers = _alternatives(ENGLISH_MODIFIERS)
        return rf"(?<![\w-])(?:{own}|(?:{modifiers})[ -](?:(?:{modifiers})[ -])*(?:{bases})|{bases})(?![\w-])"


def _chinese(*, needs_ending: bool) -> str:
    """A pattern that matches Chinese names.

    With `needs_ending`, a name of one character must end in 色: 红色 is a colour, but 红旗 is a red flag.
    """
    modifiers = f"(?:{_alternatives(CHINESE_MODIFIERS)})*"
    names = [name for each in COLOURS for name in each.chinese]
    longer = _alternatives(name for name in names if len(name) > 1)
    depths = "|".join(CHINESE_DEPTHS)
    every = _alternatives(names)
    if not needs_ending:
        return f"{modifiers}(?:{every})色?"
    return f"{modifiers}(?:{every})色|{modifiers}(?:{longer})|(?:{depths})(?:{every})"


def _alternatives(names: Iterable[str]) -> str:
    """A pattern that matches any of the names, the longest first."""
    ordered = sorted(set(names), key=lambda name: (-len(name), name))
    return "|".join(re.escape(name).replace(r"\ ", "[ -]") for name in ordered)


def _readable(text: str) -> str:
    """Normalises a text to lower case, single spaces and simplified Chinese."""
    return normal_name(text).translate(TRADITIONAL)


def _parts_of(text: str) -> Iterator[tuple[int, int]]:
    """Yields the start and the end of each part of a title, without the spaces around it."""
    start = 0
    for found in [*_PARTS.finditer(text), None]:
        end = found.start() if found else len(text)
        part = text[start:end]
        if part.strip():
            begin = start + len(part) - len(part.lstrip())
            yield begin, begin + len(part.strip())
        start = found.end() if found else end


@lru_cache(maxsize=4096)
def _take_apart(name: str) -> _Phrase:
    if _CHINESE.search(name):
        return _take_chinese_apart(name)
    words = name.replace("-", " ").replace("gray", "grey").split()
    modifiers = set()
    while len(words) > 1 and words[0] in ENGLISH_MODIFIERS and " ".join(words) not in _BASES:
        modifiers.add(ENGLISH_MODIFIERS[words.pop(0)])
    base = " ".join(words)
    return _Phrase(_SYNONYMS.get(base, base), frozenset(modifiers - {""}))


def _take_chinese_apart(name: str) -> _Phrase:
    rest = name.removesuffix("色") or name
    modifiers = set()
    while rest not in _OF_CHINESE:
        led = next(
            (word for word in sorted(CHINESE_MODIFIERS, key=len, reverse=True) if rest.startswith(word)), None
        )
        if led is None or led == rest:
            return _Phrase(name, frozenset())
        modifiers.add(CHINESE_MODIFIERS[led])
        rest = rest[len(led) :]
    return _Phrase(_OF_CHINESE[rest], frozenset(modifiers - {""}))


_BASES: Final = {name: each.hex for each in COLOURS for name in each.english}
_SYNONYMS: Final = {name: each.english[0] for each in COLOURS for name in each.english}
_OF_CHINESE: Final = {name: each.english[0] for each in COLOURS for name in each.chinese}


@lru_cache(maxsize=1)
def _css_names() -> dict[str, str]:
    from PIL import ImageColor

    return {name: value for name, value in ImageColor.colormap.items() if isinstance(value, str)}


def _css(name: str) -> str | None:
    value = _css_names().get(name.replace(" ", "").replace("-", ""))
    return value.upper() if value else None


def _changed(value: str, modifiers: frozenset[str]) -> str:
    """Applies modifiers such as dark and light to a colour, in CIELAB. A finish changes nothing."""
    from skimage.color import lab2rgb

    lightness, a, b = _lab(value)
    if "dark" in modifiers:
        lightness, a, b = 0.62 * lightness, 0.8 * a, 0.8 * b
    if "light" in modifiers:
        lightness, a, b = lightness + 0.55 * (95 - lightness), 0.6 * a, 0.6 * b
    if "bright" in modifiers or "neon" in modifiers:
        lightness, a, b = lightness + 0.15 * (95 - lightness), 1.15 * a, 1.15 * b
    if "sand" in modifiers:
        lightness, a, b = lightness + 0.4 * (60 - lightness), 0.35 * a, 0.35 * b
    for tint in sorted(modifiers & _TINTS.keys()):
        a, b = a + 0.2 * _TINTS[tint][0], b + 0.2 * _TINTS[tint][1]
    rgb = lab2rgb(np.array([[[lightness, a, b]]]))[0, 0].clip(0, 1)
    return "#" + bytes(np.round(255 * rgb).astype(np.uint8)).hex().upper()


def _distance(one: str, other: str) -> float:
    """The CIEDE2000 distance between two colours."""
    from skimage.color import deltaE_ciede2000

    return float(deltaE_ciede2000(_lab(one), _lab(other)))  # type: ignore[no-untyped-call]


@lru_cache(maxsize=4096)
def _lab_of(value: str) -> tuple[float, ...]:
    from skimage.color import rgb2lab

    rgb = np.frombuffer(bytes.fromhex(value[1:]), np.uint8)
    return tuple(rgb2lab(rgb.reshape(1, 1, 3) / 255.0)[0, 0].tolist())


def _lab(value: str) -> NDArray[np.float64]:
    return np.array(_lab_of(value))
