"""Which of a product's words a model is told, and how."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from toygan.conditions.colour_names import NO_COLOUR_NAMES, ColourNames, normal_name

_CHINESE = re.compile(r"[\u3400-\u9fff]")


def product_text(
    title: str | None,
    description: str | None = None,
    *,
    colour: str | None = None,
    finish: str | None = None,
) -> str | None:
    """Title, a finish other than solid, then description, on one line; None where nothing is said.

    The main colour's name, which is to be a condition of its own, is left out: where the title ends with it,
    else where it first stands. So the same product in another colour has the same text, and a network draws
    it in colours that nobody photographed.
    """
    said = " ".join((title or "").split())
    if words := (colour or "").split():
        name = r"\s+".join(map(re.escape, words))
        if not _CHINESE.search(name):  # which has no spaces between its words
            # Not a part of another word, nor one of two colours.
            name = rf"(?<![\w/-]){name}(?![\w/-])"
        named = rf"[\s,;:-]*(?:\({name}\)|\[{name}\]|{name})"
        said, at_end = re.subn(f"{named}$", "", said, flags=re.IGNORECASE)
        if not at_end:
            said = re.sub(named, "", said, count=1, flags=re.IGNORECASE)
        said = said.strip(" ,;:-")
    if finish and finish != "solid":
        said = f"{said}, {finish}" if said else finish
    return " ".join(f"{said} {description or ''}".split()) or None


@dataclass(frozen=True, kw_only=True)
class TextFields:
    """What a model is told of a product in words."""

    text: str | None = None  # None where nothing is said
    shape_text: str | None = None  # what says the shape: the text without the finish
    accent_hexes: tuple[str, ...] = ()  # `#RRGGBB` of the colours beside the main one, in the title's order


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """What a model takes from titles and descriptions: what it learnt from."""

    whole_titles: bool = False  # with the main colour's name, and without the finish
    descriptions: bool = True
    accent_colours: int = 0  # how many colours beside the main one are taken from the title at most
    colour_names: ColourNames = NO_COLOUR_NAMES  # by which they are found there

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """As a model's config.json says; raises ModelError for colour names that are none.

        Before models said it, they were trained on titles as they were, and on nothing else.
        """
        accent_colours = config["network"].get("accent_colours", 0)
        return cls(
            whole_titles=bool(config.get("whole_titles", not accent_colours)),
            descriptions=bool(config.get("reads_descriptions", False)),
            accent_colours=accent_colours,
            colour_names=ColourNames.from_json(config.get("colour_names", {})),
        )

    def to_config(self) -> dict[str, object]:
        """What `from_config` reads, but for the number of accent colours, which the network's options say."""
        return {
            "whole_titles": self.whole_titles,
            "reads_descriptions": self.descriptions,
            "colour_names": self.colour_names.to_json(),
        }

    def has_same_text_as(self, other: "TextConfig") -> bool:
        """Whether the texts are those that `other` takes from the same titles, names aside."""
        return (self.whole_titles, self.accent_colours > 0) == (other.whole_titles, other.accent_colours > 0)

    def words(
        self,
        title: str | None,
        description: str | None,
        *,
        colour: str | None = None,
        colour_hex: str | None = None,
        finish: str | None = None,
    ) -> TextFields:
        """Text as `product_text`; the colour's name is left out only beside `colour_hex`, which says it too.

        Accent colours are left out of the text likewise, see `ColourNames.take`, those that are too many as
        well. The first named one with the name or the value of the main colour is that one and no accent.
        """
        told = description if self.descriptions else None
        if self.whole_titles:
            text = product_text(title, told)
            return TextFields(text=text, shape_text=text)
        if colour_hex is None:
            colour = None
        accents: tuple[str, ...] = ()
        if self.accent_colours and title is not None:
            title, named = self.colour_names.take(title)
            accents = tuple(self.colour_names.hexes[name] for name in named)
            main = self._index_of_main(named, colour, colour_hex)
            if main is not None:
                accents = accents[:main] + accents[main + 1 :]
                colour = None  # it is left out already
        return TextFields(
            text=product_text(title, told, colour=colour, finish=finish),
            shape_text=product_text(title, told, colour=colour),
            accent_hexes=accents[: self.accent_colours],
        )

    def _index_of_main(self, named: Sequence[str], colour: str | None, colour_hex: str | None) -> int | None:
        if colour_hex is None:
            return None
        main_name, main_hex = normal_name(colour or ""), colour_hex.upper()
        for index, name in enumerate(named):
            if name == main_name or self.colour_names.hexes[name] == main_hex:
                return index
        return None


READS_ALL: Final = TextConfig()
