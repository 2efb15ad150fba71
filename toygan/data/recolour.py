"""Recolours photos of products of one colour. The result is correct, as if a camera had recorded it.

A surface does not change the wavelength of light. So under white light each channel of a photo depends only
on the same channel of the product's colour. So if the channels of a photo are exchanged, the result is the
photo of a product whose colour has its channels exchanged in the same way. Highlights, soft shadow and white
ground are correct. So a few photos in few colours show every shape in many colours, and a network cannot
guess the colour from the title.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from toygan.conditions.colour_hex import hex_to_rgb
from toygan.images import COLOURED

# Both limits were chosen on 2,889 photos of ten categories. Photos pass if they show one colour that is not
# grey. In each of the seven categories whose products mostly have one colour, 0.87 or more of the photos with
# a colour that is not grey pass. Of towers 0.21 pass, of figures 0.08, of cars 0.03.
SAME_HUE = 0.85  # the smallest cosine between the hues of a pixel and of the main colour
ONE_COLOUR_SHARE = 0.95


def draw_mixtures(count: int, share: float, rng: torch.Generator) -> Tensor:
    """Chooses the random source channel of each channel of `count` photos, (B, 3) int64.

    About `share` of the photos get random channels. The three channels are chosen independently, so the
    results may be grey. The other photos keep their channels.
    """
    drawn = torch.randint(3, (count, 3), generator=rng)
    mixed = torch.rand((count, 1), generator=rng) < share
    return torch.where(mixed, drawn, torch.arange(3))


def mix_channels(
    images: Tensor, colour_hexes: Sequence[str | None], channels: Tensor
) -> tuple[Tensor, Tensor]:
    """Exchanges channels of photos (B, 3, H, W) uint8.

    Returns the photos, and for each of their channels the source channel, (B, 3). A photo without a main
    colour, or with other colours beside it, does not change. Otherwise, for example, a figure's face would
    turn green together with its hat.
    """
    kept = torch.arange(3).expand_as(channels)
    channels = torch.where(shows_one_colour(images, colour_hexes)[:, None], channels, kept)
    return images.gather(1, channels[:, :, None, None].expand_as(images)), channels


def shows_one_colour(images: Tensor, colour_hexes: Sequence[str | None]) -> Tensor:
    """Returns for each photo (B, 3, H, W) uint8 whether its coloured pixels have the main colour's hue, (B,).

    A share of ONE_COLOUR_SHARE is enough. The result is False if the main colour is None or grey, because
    mixing does not change grey.
    """
    wanted = torch.tensor([hex_to_rgb(each) if each else (0, 0, 0) for each in colour_hexes]).float()
    pixels = images.float()
    coloured = pixels.amax(dim=1) - pixels.amin(dim=1) > COLOURED
    # After the mean over the channels is subtracted, the direction of a colour is its hue and the length is
    # its chroma. For a scalar product of two colours it is enough to subtract one of the means. torch's
    # cosine_similarity takes ten times as long.
    hue = wanted - wanted.mean(dim=1, keepdim=True)
    products = torch.einsum("bchw,bc->bhw", pixels, hue)
    chroma = (pixels.square().sum(dim=1) - pixels.sum(dim=1).square() / 3).clamp(min=0).sqrt()
    same = coloured & (products > SAME_HUE * chroma * hue.norm(dim=1)[:, None, None])
    count = coloured.sum(dim=(1, 2))
    is_grey = wanted.amax(dim=1) - wanted.amin(dim=1) <= COLOURED
    shows: Tensor = ~is_grey & (count > 0) & (same.sum(dim=(1, 2)) > ONE_COLOUR_SHARE * count)
    return shows


def mix_hex(colour_hex: str, channels: Sequence[int]) -> str:
    """Returns the colour `#RRGGBB` with exchanged channels."""
    rgb = hex_to_rgb(colour_hex)
    return "#" + bytes(rgb[channel] for channel in channels).hex().upper()
