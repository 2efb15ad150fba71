"""Layouts as tensors, and where a layout has which of a product's colours.

A label stands for a family of colours, and a product's colours say which of the family is meant: dark red or
red, say. Told for the whole picture, they would have to find their labels by themselves, layer by layer.
"""

from collections import Counter
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from toygan.conditions.colour import COLOUR_SIZE
from toygan.conditions.kinds import BACKGROUND
from toygan.models.layers import ConditionInput, Sections

MOST_SHADES = 256
_FAR = 1e4  # from any colour


def encode_layout(layout: Tensor, classes: int) -> Tensor:
    """(B, H, W) int64 labels to (B, classes, H, W) float32, 1 for a pixel's own class and 0 for the others.

    Raises ValueError for a label outside [0, classes).
    """
    lowest, highest = (int(each) for each in layout.aminmax())
    if lowest < 0 or highest >= classes:
        label = lowest if lowest < 0 else highest
        raise ValueError(f"the layout holds the label {label}; it must lie in 0..{classes - 1}")
    # Permuted so, it is channels-last already.
    return F.one_hot(layout, classes).float().permute(0, 3, 1, 2)


class Shades(ConditionInput):
    """Paints a product's colours on those parts of its layout that are of their families.

    Which label a colour belongs to is that of the nearest one in CIELAB of those that `fit` was given.
    """

    colours: Tensor  # (MOST_SHADES, COLOUR_SIZE) float32
    labels: Tensor  # (MOST_SHADES,) int64; the background's where a row is not taken

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("colours", torch.full((MOST_SHADES, COLOUR_SIZE), _FAR))
        self.register_buffer("labels", torch.full((MOST_SHADES,), BACKGROUND))

    def sections(self) -> Mapping[str, Sections]:
        return {name: Sections(dim=0, counts={"shades": MOST_SHADES}) for name in ("colours", "labels")}

    @torch.no_grad()
    def fit(self, colours: Tensor, labels: Tensor) -> None:
        """From K colours, (K, COLOUR_SIZE) float32, and their labels, (K,) int64.

        Of more than MOST_SHADES as many of each label are kept, so far as it has them.
        """
        seen: Counter[int] = Counter()
        rounds = []
        for label in labels.tolist():
            rounds.append(seen[label])
            seen[label] += 1
        kept = torch.tensor(rounds).argsort(stable=True)[:MOST_SHADES]
        self.colours[: len(kept)] = colours[kept]
        self.labels[: len(kept)] = labels[kept]

    def forward(self, layout: Tensor, colours: Tensor, named: Tensor | None = None) -> Tensor:
        """(B, H, W) int64 labels and (B, K, COLOUR_SIZE) colours to (B, COLOUR_SIZE, H, W) float32.

        Zeros where nothing is known. Of two colours with one label the first is painted. The first one, the
        main colour, is that of transparent products, too: of those that lack its label and are for the most
        part of labels that belong to no colour. Where `colours` are corrected ones, their labels are those of
        `named`, the same colours as the catalog names them.
        """
        labels = self.labels_of(colours if named is None else named)
        is_there = (labels[:, :, None, None] == layout[:, None]) & (layout != BACKGROUND)[:, None]
        of_no_colour = (layout != BACKGROUND) & ~torch.isin(layout, self.labels)
        lacks_main = ~is_there[:, 0].flatten(1).any(dim=1)
        is_transparent = 2 * of_no_colour.sum(dim=(1, 2)) > (layout != BACKGROUND).sum(dim=(1, 2))
        is_there[:, 0] |= of_no_colour & (lacks_main & is_transparent)[:, None, None]
        is_there &= (colours[:, :, -1] > 0)[:, :, None, None]
        painted = colours.new_zeros(*layout.shape, COLOUR_SIZE)
        for index in reversed(range(colours.shape[1])):
            painted = torch.where(is_there[:, index, :, :, None], colours[:, index, None, None], painted)
        # Permuted so, it is channels-last already.
        return painted.permute(0, 3, 1, 2)

    def labels_of(self, colours: Tensor) -> Tensor:
        """(B, K, COLOUR_SIZE) colours to the labels (B, K) int64 of their families."""
        distances = (colours[:, :, None, :-1] - self.colours[:, :-1]).square().sum(dim=3)
        labels: Tensor = self.labels[distances.argmin(dim=2)]
        return labels
