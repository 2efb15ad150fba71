"""Converts pixels of all kinds to RGB: grey, palettes, CMYK, Lab, 16 bits, transparency, colour profiles."""

import io
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, TiffImagePlugin

from toygan.errors import BadInput

_PHOTOMETRIC: Final = 262  # TIFF 6.0, section 8
_WHITE_IS_ZERO: Final = 0


class Shown(NamedTuple):
    """The first frame of a file, loaded by Pillow, and the metadata that its colours depend on."""

    image: Image.Image
    exif: bytes | None
    profile: bytes | None  # ICC
    bits: int  # the number of bits per channel in the file


class _Layers(NamedTuple):
    colours: Image.Image  # in the mode L, RGB or CMYK
    opacity: Image.Image | None = None  # in the mode L; None if every pixel is opaque


def to_rgb(shown: Shown) -> Image.Image:
    """Converts to sRGB (mode RGB). Transparent parts become white. Raises BadInput for 32-bit numbers."""
    colours, opacity = _layers(shown)
    if shown.profile is not None:
        colours = _apply_profile(colours, shown.profile)
    rgb = colours.convert("RGB")
    if opacity is None:
        return rgb
    return Image.composite(rgb, Image.new("RGB", rgb.size, "white"), opacity)


def grey_step(bits: int) -> int:
    """The difference between neighbouring greys of 1 to 8 bits, after Pillow has scaled them to 0..255."""
    return 255 // ((1 << bits) - 1)


def _layers(shown: Shown) -> _Layers:
    image, mode, key = shown.image, shown.image.mode, shown.image.info.get("transparency")
    match mode:
        case "I" | "F":
            raise BadInput("the picture holds 32-bit numbers; save it with 8 or 16 bits a channel")
        case "La" | "RGBa":  # premultiplied
            return _split(image.convert("LA" if mode == "La" else "RGBA"))
        case "LA" | "RGBA":
            return _split(image)
        case "P" | "PA" if image.has_transparency_data:
            return _split(image.convert("RGBA"))
        case "1":
            grey = image.convert("L")
            return _Layers(grey, _all_but(np.asarray(grey), 255 if key else 0 if key == 0 else None))
        case "L":
            scaled = (key & (2**shown.bits - 1)) * grey_step(shown.bits) if isinstance(key, int) else None
            return _Layers(image, _all_but(np.asarray(image), scaled))
        case "RGB":
            # Pillow keeps only the upper 8 of the pixels' 16 bits
            if isinstance(key, tuple) and shown.bits == 16:
                key = tuple(each >> 8 for each in key)
            return _Layers(image, _all_but(np.asarray(image), key))
        case "CMYK":
            return _Layers(image)
    if mode.startswith("I;16"):
        return _upper_bits(shown)
    return _Layers(image.convert("RGB"))


def _split(image: Image.Image) -> _Layers:
    *bands, opacity = image.split()
    return _Layers(bands[0] if len(bands) == 1 else Image.merge("RGB", bands), opacity)


def _upper_bits(shown: Shown) -> _Layers:
    """Scales grey of 12 or 16 bits down to 8 bits. Pillow would clip it instead."""
    numbers = np.asarray(shown.image)
    grey = (numbers >> (shown.bits - 8)).astype(np.uint8)
    tags = shown.image.tag_v2 if isinstance(shown.image, TiffImagePlugin.TiffImageFile) else {}
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow inverts only greys of fewer bits
        grey = 255 - grey
    return _Layers(Image.fromarray(grey), _all_but(numbers, shown.image.info.get("transparency")))


def _all_but(pixels: NDArray[Any], key: Any) -> Image.Image | None:
    """Returns the opacity of an image in which the pixels with the value or colour `key` are transparent."""
    if not isinstance(key, int | tuple):
        return None
    differ = pixels != np.asarray(key)
    opaque = differ.any(axis=2) if differ.ndim == 3 else differ
    return Image.fromarray(np.where(opaque, 255, 0).astype(np.uint8))


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """Converts to sRGB by the profile.

    Ignores a damaged profile, and a profile of another mode, as image viewers do.
    """
    match profile[16:20]:  # these bytes name the colour space of the pixels; ICC.1:2022, 7.2.8
        case b"RGB " if image.mode != "CMYK":
            image = image.convert("RGB")
        case b"GRAY" if _is_grey(image):
            image = image.convert("L")
        case b"CMYK" if image.mode == "CMYK":
            pass
        case _:
            return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return image if converted is None else converted


def _is_grey(image: Image.Image) -> bool:
    if image.mode == "L":
        return True
    pixels = np.asarray(image)
    return image.mode == "RGB" and bool((pixels == pixels[:, :, :1]).all())
