"""The colours that a title names beside the main one, such as those of a figure's legs and hat.

A sentence embedding says that there are colours, and hardly which is where. So they are read from the title
word by word, as conditions of their own, and the text that is left says the shape.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Self

from toygan.conditions.colour import hex_to_rgb
from toygan.errors import BadInput, ModelError

MOST_NAMES = 1024

# Brackets, whose commas part nothing, or a comma that is not of a number. Linear in a title's length.
_BRACKETS_OR_COMMA = re.compile(r"\([^()]*\)|(?<!\d),|,(?!\d)")


@dataclass(frozen=True, kw_only=True)
class ColourNames:
    """What colours are called: names, lower case and with single spaces, to `#RRGGBB`."""

    hexes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, named: Iterable[tuple[str | None, str | None]]) -> Self:
        """From pairs of name and colour, either of which may be missing.

        A name that stands for several colours has the most frequent of them; of more than MOST_NAMES the most
        frequent are kept.
        """
        votes: dict[str, Counter[str]] = {}
        for name, colour_hex in named:
            if colour_hex is not None and (words := normal_name(name or "")):
                votes.setdefault(words, Counter())[colour_hex.upper()] += 1
        kept = sorted(votes, key=lambda name: (-votes[name].total(), name))[:MOST_NAMES]
        # The smallest of those that are equally frequent, whatever the order of the pairs.
        return cls(
            hexes={name: min(votes[name].items(), key=lambda each: (-each[1], each[0]))[0] for name in kept}
        )

    @classmethod
    def from_json(cls, stated: object) -> Self:
        """As `to_json` gave it; raises ModelError for anything else."""
        if not isinstance(stated, dict) or len(stated) > MOST_NAMES:
            raise ModelError(f"colour_names must be an object of at most {MOST_NAMES} names")
        for name, colour_hex in stated.items():
            if not name or name != normal_name(name) or not isinstance(colour_hex, str):
                raise ModelError(f"colour_names holds {name!r}: {colour_hex!r}; that names no colour")
            try:
                hex_to_rgb(colour_hex)
            except BadInput as error:
                raise ModelError(f"colour_names: {error}") from error
        return cls(hexes={name: colour_hex.upper() for name, colour_hex in stated.items()})

    def to_json(self) -> dict[str, str]:
        return dict(sorted(self.hexes.items()))

    def joined(self, others: "ColourNames") -> "ColourNames":
        """With the names of `others` that it lacks, so far as there is room for them."""
        more = [each for each in others.hexes.items() if each[0] not in self.hexes]
        return ColourNames(hexes={**self.hexes, **dict(more[: MOST_NAMES - len(self.hexes)])})

    def take(self, title: str) -> tuple[str, tuple[str, ...]]:
        """The title without the colours that its parts begin with, and their names, in their order.

        Parts lie between commas: "Car, red body, white and blue roof" is "Car, body, roof" in red, white and
        blue. A colour elsewhere ("with red cross pattern") is a detail, and stays. A title without any stays
        as it is.
        """
        parts: list[str] = []
        names: list[str] = []
        for part in _parts(title) if self.hexes else ():
            said = " ".join(part.split())
            # What is cut off is found in lower case: letters that become two there are of no name here.
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
        """One of the names, not as a part of another word nor one of two colours ("red/blue")."""
        longest_first = sorted(self.hexes, key=lambda name: (-len(name), name))
        return re.compile(rf"(?<![\w/-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w/-])")

    @cached_property
    def _leading(self) -> re.Pattern[str]:
        name = self._name.pattern
        # A title from which the main colour was taken may go on with "and".
        return re.compile(rf"(?:(?:and|&) )?{name}(?: (?:and|&) {name})*")


NO_COLOUR_NAMES: Final = ColourNames()


def normal_name(name: str) -> str:
    """A colour's name as `ColourNames` has it."""
    return " ".join(name.lower().split())


def _parts(title: str) -> Iterator[str]:
    start = 0
    for found in _BRACKETS_OR_COMMA.finditer(title):
        if found[0] == ",":
            yield title[start : found.start()]
            start = found.end()
    yield title[start:]
