"""Recolours photos of products of one colour, with the result that a camera would record.

Light does not change its wavelength. So under white light each channel of a photo depends on the same channel
of the product's colour only. If the channels of a photo are exchanged, it is the photo of a product with the
exchanged colour, with correct highlights, soft shadow and white ground. So a few photos in few colours show
every shape in many colours, and a network cannot guess the colour from the title.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toygan.conditions.colour import encode_colours
from toygan.conditions.colour_hex import hex_to_rgb
from toygan.conditions.condition_types import BACKGROUND
from toygan.images import COLOURED

# Both were chosen on 2,889 photos of ten categories. Of the photos with a main colour that is not grey, at
# least 0.87 pass in the seven categories of mostly one colour; 0.21 of towers, 0.08 of figures, 0.03 of cars.
SAME_HUE = 0.85  # cosine
ONE_COLOUR_SHARE = 0.95
# A label with at least this mean silhouette of its colours stands for a colour. Families of colours have
# -0.29 or more; transparent and metallic, which are labels of any colour, have -0.70 or less.
LEAST_SILHOUETTE = -0.5
SAME_COLOUR = 1e-4  # distance of encoded colours; two different 8-bit colours are farther apart


def draw_mixtures(count: int, share: float, rng: torch.Generator) -> Tensor:
    """Draws the source channel of each channel of `count` photos, (B, 3) int64.

    About `share` of the photos get random channels, drawn independently, so that greys occur, too. The other
    photos keep theirs.
    """
    drawn = torch.randint(3, (count, 3), generator=rng)
    mixed = torch.rand((count, 1), generator=rng) < share
    return torch.where(mixed, drawn, torch.arange(3))


def mix_channels(
    images: Tensor, colour_hexes: Sequence[str | None], channels: Tensor
) -> tuple[Tensor, Tensor]:
    """Exchanges channels of the photos (B, 3, H, W) uint8; returns them and their channels (B, 3).

    Photos without a main colour, or with other colours beside it, stay as they are. Otherwise a figure's face
    would turn green together with its hat.
    """
    kept = torch.arange(3).expand_as(channels)
    channels = torch.where(shows_one_colour(images, colour_hexes)[:, None], channels, kept)
    return images.gather(1, channels[:, :, None, None].expand_as(images)), channels


def shows_one_colour(images: Tensor, colour_hexes: Sequence[str | None]) -> Tensor:
    """Returns (B,) bool: whether all coloured pixels of a photo (3, H, W) uint8 have the main colour's hue.

    It is False if the main colour is None or grey, because mixing does not change grey.
    """
    wanted = torch.tensor([hex_to_rgb(each) if each else (0, 0, 0) for each in colour_hexes]).float()
    pixels = images.float()
    coloured = pixels.amax(dim=1) - pixels.amin(dim=1) > COLOURED
    # A colour minus its mean over the channels has the hue as its direction and the chroma as its length. In
    # a scalar product one mean is enough. torch's cosine_similarity takes ten times as long.
    hue = wanted - wanted.mean(dim=1, keepdim=True)
    products = torch.einsum("bchw,bc->bhw", pixels, hue)
    chroma = (pixels.square().sum(dim=1) - pixels.sum(dim=1).square() / 3).clamp(min=0).sqrt()
    same = coloured & (products > SAME_HUE * chroma * hue.norm(dim=1)[:, None, None])
    count = coloured.sum(dim=(1, 2))
    is_grey = wanted.amax(dim=1) - wanted.amin(dim=1) <= COLOURED
    shows: Tensor = ~is_grey & (count > 0) & (same.sum(dim=(1, 2)) > ONE_COLOUR_SHARE * count)
    return shows


@dataclass(frozen=True, kw_only=True)
class LabelledColours:
    """The labels that the layouts of a set of photos give to colours, if labels stand for colours."""

    colours: Tensor  # (K, 4) float32, see toygan.conditions.colour
    labels: tuple[int, ...]  # K of 1..255

    @classmethod
    def of(cls, colour_hexes: Sequence[str | None], layouts: Tensor) -> Self | None:
        """Finds the labels from N main colours and layouts (N, R, R) uint8. Layouts of one label count.

        Returns None if no such photo has a main colour. Labels that stand for a finish instead of a colour
        are left out; products keep them. The label with the closest colours is always kept.
        """
        return cls.named(labels_of_colours(colour_hexes, layouts))

    @classmethod
    def named(cls, found: Mapping[str, int]) -> Self | None:
        """Takes labels by `#RRGGBB`, without those that stand for a finish; None if none is left."""
        labels = np.array(list(found.values()), dtype=np.int64)
        colours = encode_colours(list(found))
        rows = np.flatnonzero(name_colours(colours, labels))
        return cls(colours=colours[rows], labels=tuple(labels[rows].tolist())) if len(rows) else None

    def joined(self, earlier: "LabelledColours") -> Self:
        """Adds the labels of an earlier model. They win for colours in both: its networks learnt them."""
        distances = torch.cdist(self.colours, earlier.colours)
        new = (distances.min(dim=1).values > SAME_COLOUR).nonzero().flatten().tolist()
        return type(self)(
            colours=torch.cat([earlier.colours, self.colours[new]]),
            labels=(*earlier.labels, *(self.labels[row] for row in new)),
        )

    def relabel(self, layouts: Tensor, before: Sequence[str | None], after: Sequence[str | None]) -> Tensor:
        """Replaces the labels of the main colours `before` by those of the colours `after`.

        Layouts are (B, R, R) uint8. A colour has the label of the nearest known one in CIELAB.
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
        if colour_hex is not None and counts[label] > ONE_COLOUR_SHARE * counts.sum():
            votes.setdefault(colour_hex.upper(), Counter())[label] += 1
    return {colour_hex: each.most_common(1)[0][0] for colour_hex, each in votes.items()}


def name_colours(colours: Tensor, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Returns (K,) whether a label stands for a colour: whether the colours of one label are close."""
    from sklearn.metrics import silhouette_samples

    if not 2 <= len(set(labels)) < len(labels):
        return np.ones(len(labels), dtype=bool)
    silhouettes = silhouette_samples(colours.numpy(), labels)
    return np.array([silhouettes[labels == label].mean() >= LEAST_SILHOUETTE for label in labels])


def mix_hex(colour_hex: str, channels: Sequence[int]) -> str:
    """Returns `#RRGGBB` with exchanged channels."""
    rgb = hex_to_rgb(colour_hex)
    return "#" + bytes(rgb[channel] for channel in channels).hex().upper()
