"""Places a cut-out product in a channel's frame, on the channel's ground. It never enlarges a product."""

import colorsys
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from toygan.channels.cutout import Box, Cutout, NotCutOut, softened, without_shadow
from toygan.channels.rules import Frame

TINT_LIGHTNESS: Final = 0.93  # the lightness of a tint, in HLS
TINT_SATURATION: Final = 0.45  # the largest saturation of a tint
GREY_SATURATION: Final = 0.08  # a product with less saturation counts as grey
_FADE: Final = 0.04  # share of the frame's shorter side over which the shadow fades to nothing
_PURE: Final = 0.025  # the width of pure ground at each border, as a share of the frame's shorter side
_BLOCK_PX: Final = 8  # side of JPEG's blocks; a change of one pixel changes its whole block


class TooSmall(Exception):
    """The picture has too few pixels for the frame. The message says how many it has and needs."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where the product stands in a frame, all in pixels of the frame."""

    width: int
    height: int
    scale: float  # the factor by which the product is scaled, at most 1
    # the share of the frame's safe part that the product takes, measured along the side of which it takes
    # more
    share: float
    below_advised: bool


def place(box: Box, frame: Frame) -> Placement:
    """Chooses the largest frame, up to the advised size, in which the product has the wanted share.

    A product with few pixels gets a smaller frame. If that frame would be smaller than the channel's least
    size, the frame has the least size, and the product takes a smaller share of it. Raises TooSmall if the
    channel does not allow so small a share.
    """
    long = max(frame.aspect)
    across, down = frame.aspect[0] / long, frame.aspect[1] / long  # both as shares of the longest side
    safe_across, safe_down = fit(frame.safe_aspect or frame.aspect, across, down)
    # At its own size, the product takes the share whole / longest of a frame whose longest side is `longest`.
    whole = max(box.width / safe_across, box.height / safe_down)
    largest = int(whole / frame.share.least)
    if largest < frame.size.least:
        raise TooSmall(f"{largest} pixels at most, at least {frame.size.least} are needed")
    # Rounded up, so that a product that fits is not reduced by a part of a pixel.
    longest = min(max(math.ceil(whole / frame.share.wanted), frame.size.least), frame.size.advised)
    scale = min(1.0, frame.share.wanted * longest / whole)
    return Placement(
        width=max(1, round(longest * across)),
        height=max(1, round(longest * down)),
        scale=scale,
        share=scale * whole / longest,
        below_advised=longest < frame.size.advised,
    )


def compose(cutout: Cutout, frame: Frame, placed: Placement) -> Image.Image:
    """Returns the picture in its frame: RGB, or RGBA on a transparent ground.

    The border of the frame is pure ground: a shadow fades before it reaches the border. A product with an
    uncertain outline, or with white that may be ground in a hole, stands on white instead of a tint: white
    with a shadow needs neither. Raises NotCutOut for such a product if the frame needs more.
    """
    if placed.scale < 1:
        cutout = cutout.scaled(placed.scale)
    is_white = frame.ground == "white" or (frame.ground == "tint" and not cutout.suits_any_ground)
    if not (cutout.suits_any_ground or (is_white and (frame.shadow or cutout.is_sure))):
        raise NotCutOut("outline_unsure")
    if is_white:
        colours, opacity = (cutout.image, cutout.opacity) if frame.shadow else without_shadow(cutout)
    else:
        colours, opacity = cutout.own_colours, softened(cutout.core)
    window = _window(cutout.box, placed)
    # Only the part of the frame that shows the picture is computed; the rest is plain ground.
    part = window.within(cutout.image.size)
    at = (part.left - window.left, part.top - window.top)
    colours, opacity = colours.crop(part), opacity.crop(part)
    light = Image.new("RGB" if is_white else "L", opacity.size, "white")
    if frame.shadow:
        fading = _fading(placed.width, placed.height).crop((*at, at[0] + part.width, at[1] + part.height))
        if is_white:
            fading = ImageChops.screen(fading, cutout.unshaded.crop(part))
        shown = (cutout.shaded if is_white else cutout.light).crop(part)
        light = Image.composite(light, shown, fading)
    size = (placed.width, placed.height)
    if frame.ground == "transparent":
        made = Image.new("RGBA", size, (255, 255, 255, 0))
        made.paste(_transparent(colours, opacity, light), at)
        return made
    ground = (255, 255, 255) if is_white else tint_of(cutout)
    if not is_white:
        light = ImageChops.multiply(Image.new("RGB", opacity.size, ground), light.convert("RGB"))
    made = Image.new("RGB", size, ground)
    made.paste(Image.composite(colours, light, opacity), at)
    return made


def boxes_in(box: Box, frame: Frame, placed: Placement) -> tuple[Box, Box]:
    """Returns the boxes of the product and of the safe part in the frame, in pixels."""
    wide, high = box.width * placed.scale, box.height * placed.scale
    safe = fit(frame.safe_aspect or frame.aspect, placed.width, placed.height)
    return _middle(wide, high, placed), _middle(*safe, placed)


def _middle(wide: float, high: float, placed: Placement) -> Box:
    left, top = (placed.width - wide) / 2, (placed.height - high) / 2
    return Box(math.floor(left), math.floor(top), math.ceil(left + wide), math.ceil(top + high))


def tint_of(cutout: Cutout) -> tuple[int, int, int]:
    """Returns a light tint in the hue of the product, or a light grey for a grey product."""
    box = cutout.box
    small = (48, 48)
    colours = np.asarray(cutout.image.crop(box).resize(small, Image.Resampling.BOX), dtype=np.float32) / 255
    weight = np.asarray(cutout.core.crop(box).resize(small, Image.Resampling.BOX), dtype=np.float32) / 255
    chroma = (colours.max(axis=2) - colours.min(axis=2)) * weight
    if chroma.sum() < GREY_SATURATION * weight.sum():
        return _rgb(0.0, 0.0)
    mean = (colours * chroma[..., None]).sum(axis=(0, 1)) / chroma.sum()
    hue, _, saturation = colorsys.rgb_to_hls(*(float(each) for each in mean))
    return _rgb(hue, min(saturation, TINT_SATURATION))


def _rgb(hue: float, saturation: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hls_to_rgb(hue, TINT_LIGHTNESS, saturation)
    return round(255 * red), round(255 * green), round(255 * blue)


def fit(aspect: tuple[int, int], across: float, down: float) -> tuple[float, float]:
    """Returns width and height of the largest rectangle with the aspect `aspect` inside (across, down)."""
    factor = min(across / aspect[0], down / aspect[1])
    return aspect[0] * factor, aspect[1] * factor


def _window(box: Box, placed: Placement) -> Box:
    """Returns the place of the frame in the picture's pixels. The product is in the middle of the frame."""
    left = round((box.left + box.right - placed.width) / 2)
    top = round((box.top + box.bottom - placed.height) / 2)
    return Box(left, top, left + placed.width, top + placed.height)


def _fading(width: int, height: int) -> Image.Image:
    """Returns 255 at the border, falling to 0 towards the middle: L, width x height."""
    pure, reach = max(_BLOCK_PX, _PURE * min(width, height)), max(2.0, _FADE * min(width, height))

    def ramp(length: int) -> NDArray[np.uint8]:
        place = np.arange(length, dtype=np.float32)
        distance = np.minimum(place, length - 1 - place)
        return (255 * np.clip(1 - (distance - pure) / reach, 0, 1)).astype(np.uint8)

    return Image.fromarray(np.maximum.outer(ramp(height), ramp(width)))


def _transparent(colours: Image.Image, opacity: Image.Image, light: Image.Image) -> Image.Image:
    """Returns RGBA. A shadow becomes partly opaque black below the product."""
    if light.getextrema() == (255, 255):
        return Image.merge("RGBA", (*colours.split(), opacity))
    dark = ImageChops.invert(light)
    below = Image.merge("RGBA", (*Image.new("RGB", opacity.size).split(), dark))
    return Image.alpha_composite(below, Image.merge("RGBA", (*colours.split(), opacity)))
