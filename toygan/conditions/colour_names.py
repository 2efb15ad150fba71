"""The colours that a title names beside the main one, such as those of a figure's legs and hat.

A sentence embedding says that there are colours, and hardly which is where. So they are read from the title
word by word, as conditions of their own, and the text that is left says the shape.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Self

from toygan.conditions.colour import hex_to_rgb
from toygan.errors import BadInput, ModelError

MOST_NAMES = 1024


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
            if colour_hex is not None and (words := _normal(name or "")):
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
            if not name or name != _normal(name) or not isinstance(colour_hex, str):
                raise ModelError(f"colour_names holds {name!r}: {colour_hex!r}; that names no colour")
            try:
                hex_to_rgb(colour_hex)
            except BadInput as error:
                raise ModelError(f"colour_names: {error}") from error
        return cls(hexes=stated)

    def to_json(self) -> dict[str, str]:
        return dict(sorted(self.hexes.items()))

    def joined(self, others: "ColourNames") -> "ColourNames":
        """With the names of `others` that it lacks."""
        return ColourNames(hexes={**others.hexes, **self.hexes})

    def take(self, title: str) -> tuple[str, tuple[str, ...]]:
        """The title without the colours that its parts begin with, and their names, in their order.

        Parts lie between commas: "Car, red body, white and blue roof" is "Car, body, roof" in red, white and
        blue. A colour elsewhere ("with red cross pattern") is a detail, and stays.
        """
        if not self.hexes:
            return title, ()
        parts, names = [], []
        for part in title.split(","):
            if led := self._leading.match(part):
                names += [_normal(each) for each in self._name.findall(led[0])]
                part = part[led.end() :]
            if part.strip():
                parts.append(part.strip())
        return ", ".join(parts), tuple(names)

    @cached_property
    def _name(self) -> re.Pattern[str]:
        """One of the names, not as a part of another word nor one of two colours ("red/blue")."""
        longest_first = sorted(self.hexes, key=lambda name: (-len(name), name))
        alternatives = "|".join(r"\s+".join(map(re.escape, name.split())) for name in longest_first)
        return re.compile(rf"(?<![\w/-])(?:{alternatives})(?![\w/-])", re.IGNORECASE)

    @cached_property
    def _leading(self) -> re.Pattern[str]:
        name = self._name.pattern
        return re.compile(rf"\s*{name}(?:\s+(?:and|&)\s+{name})*", re.IGNORECASE)


NO_COLOUR_NAMES: Final = ColourNames()


def _normal(name: str) -> str:
    return " ".join(name.lower().split())
