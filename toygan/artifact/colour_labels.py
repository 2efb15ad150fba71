"""Finds the layout labels of colours in the photos of a training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from torch import Tensor

from toygan.conditions.labelled_colours import LabelledColours, labels_of_colours


@dataclass(frozen=True, kw_only=True)
class ColourLabels:
    """Maps colours to their labels in layouts."""

    exact: Mapping[str, int]  # maps main colours `#RRGGBB` of photos to their labels

    @classmethod
    def of(cls, colour_hexes: Sequence[str | None], layouts: Tensor) -> Self:
        """Finds the labels from N main colours and layouts (N, R, R) uint8.

        It uses only layouts that are almost all of one label.
        """
        return cls(exact=labels_of_colours(colour_hexes, layouts))

    def joined(self, earlier: "ColourLabels") -> Self:
        """Adds the labels of an earlier model, from which training starts.

        For a colour that both have, the earlier label is kept, because the earlier model has learnt it.
        """
        return type(self)(exact={**self.exact, **earlier.exact})

    def __call__(self, colour_hex: str) -> int | None:
        """Returns the label of a colour, or None if no label is known.

        A main colour of the photos has the label that it has there. Any other colour has the label of the
        nearest main colour in CIELAB. That search leaves out colours whose label stands for a finish, such as
        transparent.
        """
        if (label := self.exact.get(colour_hex.upper())) is not None:
            return label
        return None if self._families is None else self._families.label(colour_hex)

    @cached_property
    def _families(self) -> LabelledColours | None:
        return LabelledColours.named(self.exact)
