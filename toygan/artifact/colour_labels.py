"""The layout labels of colours, as the photos of a training show them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from torch import Tensor

from toygan.conditions.labelled_colours import LabelledColours, labels_of_colours


@dataclass(frozen=True, kw_only=True)
class ColourLabels:
    """The label of each colour in the layouts."""

    exact: Mapping[str, int]  # maps each main colour `#RRGGBB` of the photos to its label

    @classmethod
    def of(cls, colour_hexes: Sequence[str | None], layouts: Tensor) -> Self:
        """Finds the labels from N main colours and layouts (N, R, R) uint8.

        It uses only layouts that are almost all of one label.
        """
        return cls(exact=labels_of_colours(colour_hexes, layouts))

    def joined(self, earlier: "ColourLabels") -> Self:
        """Adds the labels of an earlier model. If both have a colour, the earlier label stays.

        The networks start from the earlier model, which has learnt its labels.
        """
        return type(self)(exact={**self.exact, **earlier.exact})

    def __call__(self, colour_hex: str) -> int | None:
        """Returns the label of a colour, or None if no label is known.

        A main colour of the photos has its own label. Any other colour has the label of the nearest main
        colour in CIELAB. That search leaves out colours whose label stands for a finish, such as transparent.
        """
        if (label := self.exact.get(colour_hex.upper())) is not None:
            return label
        return None if self._families is None else self._families.label(colour_hex)

    @cached_property
    def _families(self) -> LabelledColours | None:
        return LabelledColours.named(self.exact)
