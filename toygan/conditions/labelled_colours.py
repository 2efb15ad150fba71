"""Finds the labels of colours in layouts, from layouts of products with a known main colour."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toygan.conditions.colour import encode_colours
from toygan.conditions.condition_types import BACKGROUND

ONE_LABEL_SHARE = 0.95  # a product has a single label if at least this share of its pixels has this label
# A label stands for a family of colours if the mean silhouette of its colours is at least this. Families of
# colours have -0.29 or more. The labels transparent and metallic, which occur with any colour, have -0.70 or
# less.
LEAST_SILHOUETTE = -0.5
# encoded colours within this distance are the same; two different 8-bit colours are farther apart
SAME_COLOUR = 1e-4


@dataclass(frozen=True, kw_only=True)
class LabelledColours:
    """Maps K colours to their labels in the layouts of photos.

    Labels that stand for a finish are left out.
    """

    colours: Tensor  # (K, 4) float32, see toygan.conditions.colour
    labels: tuple[int, ...]  # K labels, each 1..255

    @classmethod
    def of(cls, colour_hexes: Sequence[str | None], layouts: Tensor) -> Self | None:
        """Finds the labels from N main colours and layouts (N, R, R) uint8.

        It uses only photos with a main colour and a layout that is almost all of one label. Returns None if
        there is no such photo. Labels that stand for a finish instead of a colour are left out. The label
        whose colours are closest together is always kept.
        """
        return cls.named(labels_of_colours(colour_hexes, layouts))

    @classmethod
    def named(cls, found: Mapping[str, int]) -> Self | None:
        """Takes a mapping from `#RRGGBB` to labels and leaves out labels that stand for a finish.

        Returns None if no label is left.
        """
        labels = np.array(list(found.values()), dtype=np.int64)
        colours = encode_colours(list(found))
        rows = np.flatnonzero(name_colours(colours, labels))
        return cls(colours=colours[rows], labels=tuple(labels[rows].tolist())) if len(rows) else None

    def joined(self, earlier: "LabelledColours") -> Self:
        """Adds the labels of an earlier model, from which training starts.

        For a colour that both have, the earlier label is kept, because the earlier model has learnt it.
        """
        distances = torch.cdist(self.colours, earlier.colours)
        new = (distances.min(dim=1).values > SAME_COLOUR).nonzero().flatten().tolist()
        return type(self)(
            colours=torch.cat([earlier.colours, self.colours[new]]),
            labels=(*earlier.labels, *(self.labels[row] for row in new)),
        )

    def relabel(self, layouts: Tensor, before: Sequence[str | None], after: Sequence[str | None]) -> Tensor:
        """Replaces the labels of the main colours `before` by those of the colours `after`.

        Layouts are (B, R, R) uint8. `label` gives the label of a colour.
        """
        layouts = layouts.clone()
        for layout, one, other in zip(layouts, before, after, strict=True):
            if one is not None and other is not None and one != other:
                layout[layout == self.label(one)] = self.label(other)
        return layouts

    def label(self, colour_hex: str) -> int:
        """Returns the label of the nearest known colour in CIELAB."""
        distances = (self.colours - encode_colours([colour_hex])).norm(dim=1)
        return self.labels[int(distances.argmin())]


def labels_of_colours(colour_hexes: Sequence[str | None], layouts: Tensor) -> dict[str, int]:
    """Maps each `#RRGGBB` of N main colours to the most frequent label of its layouts (N, R, R) uint8.

    Only layouts that are almost all of one label count.
    """
    votes: dict[str, Counter[int]] = {}
    for colour_hex, layout in zip(colour_hexes, layouts, strict=True):
        counts = layout.flatten().bincount()
        counts[BACKGROUND] = 0
        label = int(counts.argmax())
        if colour_hex is not None and counts[label] > ONE_LABEL_SHARE * counts.sum():
            votes.setdefault(colour_hex.upper(), Counter())[label] += 1
    return {colour_hex: each.most_common(1)[0][0] for colour_hex, each in votes.items()}


def name_colours(colours: Tensor, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Returns for each of K colours whether its label stands for a family of close colours, (K,)."""
    from sklearn.metrics import silhouette_samples

    if not 2 <= len(set(labels)) < len(labels):
        return np.ones(len(labels), dtype=bool)
    silhouettes = silhouette_samples(colours.numpy(), labels)
    return np.array([silhouettes[labels == label].mean() >= LEAST_SILHOUETTE for label in labels])
