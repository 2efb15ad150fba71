"""Photos of one product in another colour, exactly as a camera would see it.

Light of one wavelength never turns into another, so under white light each channel of a photo depends on that
channel of the product's colour alone: a red product with the values of green where those of red were is the
photo of a product with such a colour, its highlights, its soft shadow and the white ground included. So a few
photos in few colours show every shape in many, and a network cannot take a product's colour from its title.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toygan.conditions.colour import encode_colours, hex_to_rgb
from toygan.conditions.condition_types import BACKGROUND
from toygan.images import COLOURED

# Both found on 2,889 photos of ten categories. Of those whose main colour is no grey they let 0.87 and more
# through in the seven categories of mostly one colour; of towers 0.21, of figures 0.08, of cars 0.03.
SAME_HUE = 0.85  # cosine
ONE_COLOUR_SHARE = 0.95
# Mean silhouette of a label's colours from which the label is taken for that of a colour. Families of colours
# have -0.29 or more there; transparent and metallic, which are labels of any colour, -0.70 and less.
LEAST_SILHOUETTE = -0.5
SAME_COLOUR = 1e-4  # of encoded colours; those of 8 bits that are two lie farther from each other


def draw_mixtures(count: int, share: float, rng: torch.Generator) -> Tensor:
    """For about `share` of `count` photos, from which channel each of theirs is to come: (B, 3) int64.

    Every one from any, independently, so that there are greys, too; the other photos keep theirs.
    """
    drawn = torch.randint(3, (count, 3), generator=rng)
    mixed = torch.rand((count, 1), generator=rng) < share
    return torch.where(mixed, drawn, torch.arange(3))


def mix_channels(
    images: Tensor, colour_hexes: Sequence[str | None], channels: Tensor
) -> tuple[Tensor, Tensor]:
    """The (B, 3, H, W) uint8 photos with `channels` (B, 3) int64 in place of theirs, and which they have.

    Photos without a main colour, and those that show others beside it, stay: of them it would be the wrong
    word, as a figure's face would turn green with its hat.
    """
    kept = torch.arange(3).expand_as(channels)
    channels = torch.where(shows_one_colour(images, colour_hexes)[:, None], channels, kept)
    return images.gather(1, channels[:, :, None, None].expand_as(images)), channels


def shows_one_colour(images: Tensor, colour_hexes: Sequence[str | None]) -> Tensor:
    """(B,) bool: whether what has a colour in the (B, 3, H, W) uint8 photos has the hue of the main colour.

    Never where the main colour is None or grey, which mixing would not change.
    """
    wanted = torch.tensor([hex_to_rgb(each) if each else (0, 0, 0) for each in colour_hexes]).float()
    pixels = images.float()
    coloured = pixels.amax(dim=1) - pixels.amin(dim=1) > COLOURED
    # Less its mean over the channels a colour is its hue, by the direction, and its chroma, by the length. In
    # the product of two one mean is enough, and torch's cosine_similarity takes ten times as long.
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
    """What label the layouts of a set of photos give to which colour, where labels are of colours."""

    colours: Tensor  # (K, 4) float32, see toygan.conditions.colour
    labels: tuple[int, ...]  # K of 1..255

    @classmethod
    def of(cls, colour_hexes: Sequence[str | None], layouts: Tensor) -> Self | None:
        """From the N main colours and (N, R, R) uint8 labels of photos, of which those of one label count.

        None where there is no such photo with a main colour. Labels that stand for a finish, say, instead of
        a colour are left out: products with those keep them. The label whose colours lie nearest together
        always stays.
        """
        return cls.named(labels_of_colours(colour_hexes, layouts))

    @classmethod
    def named(cls, found: Mapping[str, int]) -> Self | None:
        """From labels by `#RRGGBB`, without those that stand for a finish; None where none is left."""
        labels = np.array(list(found.values()), dtype=np.int64)
        colours = encode_colours(list(found))
        rows = np.flatnonzero(name_colours(colours, labels))
        return cls(colours=colours[rows], labels=tuple(labels[rows].tolist())) if len(rows) else None

    def joined(self, earlier: "LabelledColours") -> Self:
        """With those of an earlier model, which count where both know a colour: its networks learnt them."""
        distances = torch.cdist(self.colours, earlier.colours)
        new = (distances.min(dim=1).values > SAME_COLOUR).nonzero().flatten().tolist()
        return type(self)(
            colours=torch.cat([earlier.colours, self.colours[new]]),
            labels=(*earlier.labels, *(self.labels[row] for row in new)),
        )

    def relabel(self, layouts: Tensor, before: Sequence[str | None], after: Sequence[str | None]) -> Tensor:
        """(B, R, R) uint8 layouts of products that had other main colours `before` those they have `after`.

        A colour has the label of the nearest one in CIELAB that was seen.
        """
        layouts = layouts.clone()
        for layout, one, other in zip(layouts, before, after, strict=True):
            if one is not None and other is not None and one != other:
                layout[layout == self.label(one)] = self.label(other)
        return layouts

    def label(self, colour_hex: str) -> int:
        """That of the nearest colour in CIELAB."""
        distances = (self.colours - encode_colours([colour_hex])).norm(dim=1)
        return self.labels[int(distances.argmin())]


def labels_of_colours(colour_hexes: Sequence[str | None], layouts: Tensor) -> dict[str, int]:
    """By the N main colours and (N, R, R) uint8 layouts of photos: `#RRGGBB` to the label that most photos
    of it have, where they are of one label."""
    votes: dict[str, Counter[int]] = {}
    for colour_hex, layout in zip(colour_hexes, layouts, strict=True):
        counts = layout.flatten().bincount()
        counts[BACKGROUND] = 0
        label = int(counts.argmax())
        if colour_hex is not None and counts[label] > ONE_COLOUR_SHARE * counts.sum():
            votes.setdefault(colour_hex.upper(), Counter())[label] += 1
    return {colour_hex: each.most_common(1)[0][0] for colour_hex, each in votes.items()}


def name_colours(colours: Tensor, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(K,) whether the labels (K,) are of colours: whether those of one label are near each other."""
    from sklearn.metrics import silhouette_samples

    if not 2 <= len(set(labels)) < len(labels):
        return np.ones(len(labels), dtype=bool)
    silhouettes = silhouette_samples(colours.numpy(), labels)
    return np.array([silhouettes[labels == label].mean() >= LEAST_SILHOUETTE for label in labels])


def mix_hex(colour_hex: str, channels: Sequence[int]) -> str:
    """`#RRGGBB` with `channels` in place of its own."""
    rgb = hex_to_rgb(colour_hex)
    return "#" + bytes(rgb[channel] for channel in channels).hex().upper()
