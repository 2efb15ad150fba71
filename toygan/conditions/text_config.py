"""Selects the texts of a product that a model is given."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from toygan.conditions.colour_names import NO_COLOUR_NAMES, ColourNames, normal_name

_CHINESE = re.compile(r"[\u3400-\u9fff]")


def product_text(
    title: str | None,
    description: str | None = None,
    *,
    colour: str | None = None,
    finish: str | None = None,
) -> str | None:
    """Joins title, finish (unless `solid`) and description on one line. None if there is no text.

    `colour` is the main colour's name. It is removed from the title, because the main colour is a separate
    condition. If the title ends with the name, the name is removed at the end, else where it occurs first. So
    a product has the same text in every colour, and a network can generate it in colours that no photo shows.
    """
    said = " ".join((title or "").split())
    if words := (colour or "").split():
        name = r"\s+".join(map(re.escape, words))
        if not _CHINESE.search(name):  # Chinese has no spaces between its words
            # The name must be a whole word, and not one of a pair of colours ("red/blue").
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
    """The texts of a product that a model is given, and the colours that its title names."""

    text: str | None = None  # None if there is no text
    shape_text: str | None = None  # the text without the finish; it describes the shape
    accent_hexes: tuple[str, ...] = ()  # `#RRGGBB` of the colours beside the main one, in the title's order


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Says which parts of titles and descriptions a model is given.

    Training and generation use the same config.
    """

    whole_titles: bool = False  # true: titles keep the main colour's name, and the finish is not added
    descriptions: bool = True
    # the largest number of colours, beside the main colour, that are taken from a title
    accent_colours: int = 0
    colour_names: ColourNames = NO_COLOUR_NAMES  # the known names of accent colours

    def has_same_text_as(self, other: "TextConfig") -> bool:
        """Says whether both configs take the same text from a title. Their colour names are not compared."""
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
        """Takes the text fields of a product.

        The text is that of `product_text`. With `whole_titles` the title stays as it is. Otherwise the main
        colour's name is removed if there is a `colour_hex`. If `accent_colours` is above 0, the colours that
        `ColourNames.take` finds are removed, too, even those beyond this limit. The first of these with the
        main colour's name or value counts as the main colour, not as an accent.
        """
        if not self.descriptions:
            description = None
        if self.whole_titles:
            text = product_text(title, description)
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
                colour = None  # `take` has already removed the main colour's name
        return TextFields(
            text=product_text(title, description, colour=colour, finish=finish),
            shape_text=product_text(title, description, colour=colour),
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
