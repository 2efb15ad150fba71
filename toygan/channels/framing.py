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
_Layers = tuple[Image.Image, Image.Image, Image.Image]  # the colours, the opacity and the light of a picture
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
    uncertain outline stands on white instead of a tint, because white with a shadow needs no exact outline.
    Raises NotCutOut for such a product if the frame needs one.
    """
    is_white = frame.ground == "white" or (frame.ground == "tint" and not cutout.is_sure)
    if not cutout.is_sure and not (is_white and frame.shadow):
        raise NotCutOut("outline_unsure")
    if is_white:
        opacity = cutout.opacity if frame.shadow else without_shadow(cutout)
        layers = cutout.image, opacity, cutout.lit if frame.shadow else cutout.image
    else:
        layers = cutout.own_colours, softened(cutout.core), cutout.light if frame.shadow else cutout.image
    colours, opacity, light = _window(layers, cutout.box, placed)
    if not frame.shadow:
        light = Image.new("RGB", opacity.size, "white")
    else:
        light = ImageChops.screen(light, _fading(placed.width, placed.height))
    if frame.ground == "transparent":
        return _transparent(colours, opacity, light.convert("L"))
    if not is_white:
        light = ImageChops.multiply(Image.new("RGB", opacity.size, tint_of(cutout)), light)
    return Image.composite(colours, light, opacity)


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


def _window(layers: _Layers, box: Box, placed: Placement) -> _Layers:
    """Cuts a window of the frame's shape out of the layers and scales it. The product is in its middle.

    Where the window reaches beyond the picture, there is lit ground.
    """
    scale = placed.scale
    middle_x, middle_y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    wide, high = placed.width / scale, placed.height / scale
    fills: tuple[tuple[int, int, int] | int, ...] = ((255, 255, 255), 0, (255, 255, 255))
    if scale == 1.0:  # at this scale pixels are moved without resampling
        left, top = round(middle_x - wide / 2), round(middle_y - high / 2)
        corner = (left, top, left + placed.width, top + placed.height)
        cropped = [_cropped(*each, corner) for each in zip(layers, fills, strict=True)]
        return cropped[0], cropped[1], cropped[2]
    # The part of the frame that shows the picture, in whole pixels; only this is scaled.
    start_x, start_y = placed.width / 2 - middle_x * scale, placed.height / 2 - middle_y * scale
    image = layers[0]
    shown = (
        max(0, math.ceil(start_x)),
        max(0, math.ceil(start_y)),
        min(placed.width, math.floor(start_x + image.width * scale)),
        min(placed.height, math.floor(start_y + image.height * scale)),
    )
    size = (shown[2] - shown[0], shown[3] - shown[1])
    part = (
        max(0.0, (shown[0] - start_x) / scale),
        max(0.0, (shown[1] - start_y) / scale),
        min(float(image.width), (shown[2] - start_x) / scale),
        min(float(image.height), (shown[3] - start_y) / scale),
    )
    colours, opacity, light = layers
    # Colours are scaled with their opacity, so that the ground's colours do not mix in.
    together = Image.merge("RGBA", (*colours.split(), opacity)).convert("RGBa")
    *bands, alpha = together.resize(size, Image.Resampling.LANCZOS, box=part).convert("RGBA").split()
    scaled = Image.merge("RGB", bands), alpha, light.resize(size, Image.Resampling.BILINEAR, box=part)
    framed = []
    for layer, fill in zip(scaled, fills, strict=True):
        canvas = Image.new(layer.mode, (placed.width, placed.height), fill)
        canvas.paste(layer, shown[:2])
        framed.append(canvas)
    return framed[0], framed[1], framed[2]


def _cropped(
    layer: Image.Image, fill: tuple[int, int, int] | int, corner: tuple[int, int, int, int]
) -> Image.Image:
    left, top, right, bottom = corner
    if left >= 0 and top >= 0 and right <= layer.width and bottom <= layer.height:
        return layer.crop(corner)
    canvas = Image.new(layer.mode, (right - left, bottom - top), fill)
    canvas.paste(layer, (-left, -top))
    return canvas


def _fading(width: int, height: int) -> Image.Image:
    """Returns 255 at the border, falling to 0 towards the middle: RGB, width x height."""
    pure, reach = max(_BLOCK_PX, _PURE * min(width, height)), max(2.0, _FADE * min(width, height))

    def ramp(length: int) -> NDArray[np.uint8]:
        place = np.arange(length, dtype=np.float32)
        distance = np.minimum(place, length - 1 - place)
        return (255 * np.clip(1 - (distance - pure) / reach, 0, 1)).astype(np.uint8)

    fading = Image.fromarray(np.maximum.outer(ramp(height), ramp(width)))
    return Image.merge("RGB", (fading, fading, fading))


def _transparent(colours: Image.Image, opacity: Image.Image, light: Image.Image) -> Image.Image:
    """Returns RGBA. A shadow becomes partly opaque black below the product."""
    if light.getextrema() == (255, 255):
        return Image.merge("RGBA", (*colours.split(), opacity))
    dark = ImageChops.invert(light)
    below = Image.merge("RGBA", (*Image.new("RGB", opacity.size).split(), dark))
    return Image.alpha_composite(below, Image.merge("RGBA", (*colours.split(), opacity)))
