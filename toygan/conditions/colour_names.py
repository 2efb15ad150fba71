"""Finds the accent colours in a title. These are the colours beside the main colour, such as those of legs
and hat.

A sentence embedding contains hardly any information about which part has which colour. So the colours are
read from the title word by word and become separate conditions. The rest of the title describes the shape.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Self

from toygan.conditions.colour_hex import hex_to_rgb
from toygan.errors import BadInput, ModelError

MOST_NAMES = 1024

# A comma inside brackets or inside a number does not separate parts. The match takes time linear in the
# title's length.
_BRACKETS_OR_COMMA = re.compile(r"\([^()]*\)|(?<!\d),|,(?!\d)")


@dataclass(frozen=True, kw_only=True)
class ColourNames:
    """Maps names of colours, in lower case and with single spaces, to `#RRGGBB`."""

    hexes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, named: Iterable[tuple[str | None, str | None]]) -> Self:
        """Makes the mapping from pairs of name and colour. A pair without a name or a colour is left out.

        If a name has several colours, it is mapped to the most frequent one. Only the MOST_NAMES most
        frequent names are kept.
        """
        votes: dict[str, Counter[str]] = {}
        for name, colour_hex in named:
            if colour_hex is not None and (words := normal_name(name or "")):
                votes.setdefault(words, Counter())[colour_hex.upper()] += 1
        kept = sorted(votes, key=lambda name: (-votes[name].total(), name))[:MOST_NAMES]
        # Among equally frequent colours the smallest value is taken, so that the order of the pairs does not
        # matter.
        return cls(
            hexes={name: min(votes[name].items(), key=lambda each: (-each[1], each[0]))[0] for name in kept}
        )

    @classmethod
    def from_json(cls, stated: object) -> Self:
        """Reads what `to_json` returned. Raises ModelError for anything else."""
        if not isinstance(stated, dict) or len(stated) > MOST_NAMES:
            raise ModelError(f"colour_names must be an object of at most {MOST_NAMES} names")
        for name, colour_hex in stated.items():
            if not name or name != normal_name(name) or not isinstance(colour_hex, str):
                raise ModelError(
                    f"colour_names holds {name!r}: {colour_hex!r}; a name must be in lower case with single "
                    "spaces, and its colour a text #RRGGBB"
                )
            try:
                hex_to_rgb(colour_hex)
            except BadInput as error:
                raise ModelError(f"colour_names: {error}") from error
        return cls(hexes={name: colour_hex.upper() for name, colour_hex in stated.items()})

    def to_json(self) -> dict[str, str]:
        return dict(sorted(self.hexes.items()))

    def joined(self, others: "ColourNames") -> "ColourNames":
        """Adds the missing names from `others`, up to MOST_NAMES names in all."""
        more = [each for each in others.hexes.items() if each[0] not in self.hexes]
        return ColourNames(hexes={**self.hexes, **dict(more[: MOST_NAMES - len(self.hexes)])})

    def take(self, title: str) -> tuple[str, tuple[str, ...]]:
        """Splits a title into parts at its commas, and removes the colours at the beginning of each part.

        Returns the rest of the title, and the names of the removed colours in their order. "Car, red body,
        white and blue roof" gives "Car, body, roof" and red, white, blue. A colour elsewhere ("with red cross
        pattern") is a detail and stays in the title. A title without colours at these places is unchanged.
        """
        parts: list[str] = []
        names: list[str] = []
        for part in _parts(title) if self.hexes else ():
            said = " ".join(part.split())
            # Positions found in the lower-case title are valid in the title only if both have the same
            # length.
            lower = said.lower()
            led = self._leading.match(lower) if len(lower) == len(said) else None
            if led is not None:
                names += self._name.findall(led[0])
                said = said[led.end() :].strip()
            if said:
                parts.append(said)
        return (", ".join(parts), tuple(names)) if names else (title, ())

    @cached_property
    def _name(self) -> re.Pattern[str]:
        """Returns a pattern that matches one of the names as a whole word, but not in pairs of colours
        ("red/blue").
        """
        longest_first = sorted(self.hexes, key=lambda name: (-len(name), name))
        return re.compile(rf"(?<![\w/-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w/-])")

    @cached_property
    def _leading(self) -> re.Pattern[str]:
        name = self._name.pattern
        # A title may begin with "and", because its main colour has been removed before.
        return re.compile(rf"(?:(?:and|&) )?{name}(?: (?:and|&) {name})*")


NO_COLOUR_NAMES: Final = ColourNames()


def normal_name(name: str) -> str:
    """Normalises a colour's name as in `ColourNames`: lower case and single spaces."""
    return " ".join(name.lower().split())


def _parts(title: str) -> Iterator[str]:
    start = 0
    for found in _BRACKETS_OR_COMMA.finditer(title):
        if found[0] == ",":
            yield title[start : found.start()]
            start = found.end()
    yield title[start:]
