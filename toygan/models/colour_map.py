"""The colour map: a product's exact colours, painted on its layout.

A label of a layout stands for a family of colours, such as reds. The product's colours say which red. The
colour map gives the networks each colour at its own pixels. From a single vector for the whole picture, the
networks would have to learn where each colour belongs.
"""

from collections import Counter
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from toygan.conditions.colour import COLOUR_SIZE
from toygan.conditions.condition_types import BACKGROUND
from toygan.models.layers import ConditionInput, Sections

MAX_COLOURS = 256
_LABELS = 256  # labels are bytes
_FAR = 1e4  # fills unused rows, because it is farther away than any colour


def encode_layout(layout: Tensor, classes: int) -> Tensor:
    """One-hot encoding of labels: (B, H, W) int64 to (B, classes, H, W) float32.

    Raises ValueError for a label outside [0, classes).
    """
    if not torch.compiler.is_compiling():  # torch cannot trace a network that reads a tensor's values
        lowest, highest = (int(each) for each in layout.aminmax())
        if lowest < 0 or highest >= classes:
            label = lowest if lowest < 0 else highest
            raise ValueError(f"the layout holds the label {label}; it must lie in 0..{classes - 1}")
    # The permuted tensor is in channels-last memory format.
    return F.one_hot(layout, classes).float().permute(0, 3, 1, 2)


class ColourMap(ConditionInput):
    """Paints each colour of a product on the pixels of the layout that have the label of this colour.

    The label of a colour is that of the nearest colour, in CIELAB, among the colours given to `fit`.
    """

    colours: Tensor  # (MAX_COLOURS, COLOUR_SIZE) float32
    labels: Tensor  # (MAX_COLOURS,) int64; BACKGROUND in rows that are not in use

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("colours", torch.full((MAX_COLOURS, COLOUR_SIZE), _FAR))
        self.register_buffer("labels", torch.full((MAX_COLOURS,), BACKGROUND))

    def sections(self) -> Mapping[str, Sections]:
        return {name: Sections(dim=0, counts={"colour_map": MAX_COLOURS}) for name in ("colours", "labels")}

    @torch.no_grad()
    def fit(self, colours: Tensor, labels: Tensor) -> None:
        """Stores K colours, (K, COLOUR_SIZE) float32, and their labels, (K,) int64.

        If there are more than MAX_COLOURS colours, it keeps equally many for each label, or all colours of a
        label that has fewer.
        """
        counts: Counter[int] = Counter()
        rounds = []
        for label in labels.tolist():
            rounds.append(counts[label])
            counts[label] += 1
        kept = torch.tensor(rounds).argsort(stable=True)[:MAX_COLOURS]
        self.colours[: len(kept)] = colours[kept]
        self.labels[: len(kept)] = labels[kept]

    def forward(self, layout: Tensor, colours: Tensor, named: Tensor | None = None) -> Tensor:
        """Paints colours (B, K, COLOUR_SIZE) on layouts (B, H, W) int64.

        Returns (B, COLOUR_SIZE, H, W) float32. Pixels without a known colour are zero. If two
        colours have the same label, the earlier one is painted.

        The first colour is the main colour. A transparent product gets the main colour on the labels that
        have no colour of their own. A product counts as transparent if these labels cover more than half of
        it, and if the layout lacks the label of the main colour.

        A colour profile may have corrected `colours`. Then `named` holds the uncorrected colours of the
        catalog, by which the labels are looked up.
        """
        labels = self.labels_of(colours if named is None else named)
        is_there = (labels[:, :, None, None] == layout[:, None]) & (layout != BACKGROUND)[:, None]
        # A table takes the place of torch.isin, which ONNX lacks.
        has_colour = F.one_hot(self.labels, _LABELS).amax(dim=0) > 0
        of_no_colour = (layout != BACKGROUND) & ~has_colour[layout]
        lacks_main = ~is_there[:, 0].flatten(1).any(dim=1)
        is_transparent = 2 * of_no_colour.sum(dim=(1, 2)) > (layout != BACKGROUND).sum(dim=(1, 2))
        is_there[:, 0] |= of_no_colour & (lacks_main & is_transparent)[:, None, None]
        is_there &= (colours[:, :, -1] > 0)[:, :, None, None]
        painted = colours.new_zeros(*layout.shape, COLOUR_SIZE)
        for index in reversed(range(colours.shape[1])):
            painted = torch.where(is_there[:, index, :, :, None], colours[:, index, None, None], painted)
        # The permuted tensor is in channels-last memory format.
        return painted.permute(0, 3, 1, 2)

    def labels_of(self, colours: Tensor) -> Tensor:
        """Looks up the labels, (B, K) int64, of colours (B, K, COLOUR_SIZE)."""
        distances = (colours[:, :, None, :-1] - self.colours[:, :-1]).square().sum(dim=3)
        labels: Tensor = self.labels[distances.argmin(dim=2)]
        return labels
