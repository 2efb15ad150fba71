"""Converts pictures between files, uint8 pixels and tensors in [-1, 1]. All such conversions are in this
module.

All pixels are 8-bit sRGB. This module does not import torch, because its two tensor functions only call
methods of their argument. So a process that only checks and encodes pictures needs little memory and starts
fast.

Every file that `encode` makes is marked as synthetic by the IPTC property DigitalSourceType in an XMP packet.
Source: XMP Specification Part 3 for the packet's place in each format.
"""

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from toygan.errors import BadInput
from toygan.picture_files import HEAD_BYTES, READABLE, format_of, orientation, taken_apart
from toygan.pixels import Shown, grey_step, to_rgb
from toygan.xmp import digital_source_type, xmp_packet

if TYPE_CHECKING:
    from torch import Tensor

ImageFormat = Literal["webp", "jpg", "png"]

MIME_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {"webp": "image/webp", "jpg": "image/jpeg", "png": "image/png"}
)
# A pixel shows the product if its brightest channel is below DARK (darker than a soft shadow), or if the
# brightest minus the darkest channel is above COLOURED. Both limits are in 0..255.
DARK: Final = 200
COLOURED: Final = 32
# The shares of red, green and blue in the brightness of a pixel, of ITU-R BT.601.
BRIGHTNESS: Final = (0.299, 0.587, 0.114)
MAX_PIXELS: Final = 64_000_000  # files with more pixels are not decoded; this number takes 192 MB as RGB
SHORTEST_SIDE: Final = 32  # shortest side of a photo in pixels; smaller photos show no detail
_TRANSPOSED: Final = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
)
_LOSSLESS: Final = ("PNG", "GIF", "TIFF", "BMP")
_BITS_PER_SAMPLE: Final = 258  # TIFF 6.0, section 8
_PNG_BITS: Final = 24  # the offset of the bits per channel in a PNG header

# Pillow's warnings of malformed metadata do not name the file. Unusable files raise errors that name it.
warnings.filterwarnings("ignore", module=r"PIL\.")


def from_uint8(images: "Tensor") -> "Tensor":
    """Converts (B, 3, H, W) uint8 to float32 in [-1, 1] of the same shape: 0 to -1 and 255 to 1."""
    return images.float().div(127.5).sub(1.0)


def to_uint8(images: "Tensor") -> NDArray[np.uint8]:
    """Converts (B, 3, H, W) float of any range to (B, H, W, 3) uint8 on the host.

    Clamps to [-1, 1] and rounds; the inverse of `from_uint8`. NaN becomes mid-grey, so the caller must find
    pictures that are not finite before this call.
    """
    clamped = images.detach().float().nan_to_num(nan=0.0).clamp(-1.0, 1.0)
    pixels = clamped.add(1.0).mul(127.5).round().byte().permute(0, 2, 3, 1).contiguous()
    array: NDArray[np.uint8] = pixels.cpu().numpy()
    return array


def encode(pixels: NDArray[np.uint8], image_format: ImageFormat) -> bytes:
    """Encodes (H, W, 3) uint8 sRGB as a file with the XMP mark. The same pixels always give the same bytes.

    Measured on product photos with sides of 64 pixels (in brackets: 128 pixels): WebP takes 0.22 (0.53) ms
    and 0.9 (1.9) kB, JPEG 0.07 (0.16) ms and 1.8 (4.2) kB, PNG 0.3 (1) ms and 5 (15) kB. A higher WebP method
    takes up to four times as long and saves 4 % of the bytes. The mark adds 0.5 kB.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"the pixels must be (H, W, 3) uint8, not {pixels.shape} {pixels.dtype}")
    image = Image.fromarray(np.ascontiguousarray(pixels))
    file = io.BytesIO()
    match image_format:
        case "webp":
            image.save(file, "WEBP", quality=90, method=2, xmp=xmp_packet())
        case "jpg":
            # With chroma at half the resolution, a red product of 64 pixels has a pink rim.
            image.save(file, "JPEG", quality=92, subsampling="4:4:4", optimize=True, xmp=xmp_packet())
        case "png":
            chunks = PngImagePlugin.PngInfo()
            chunks.add_itxt("XML:com.adobe.xmp", xmp_packet().decode())
            image.save(file, "PNG", compress_level=3, pnginfo=chunks)
        case _:
            raise ValueError(f"unknown image format {image_format!r}; known are {', '.join(MIME_TYPES)}")
    return file.getvalue()


def encode_photo(pixels: NDArray[np.uint8], image_format: Literal["png", "webp"] = "png") -> bytes:
    """Encodes a photo, (H, W, 3) uint8 sRGB. The file has no mark, because a photo is not generated."""
    file = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if image_format == "png":
        image.save(file, "PNG", compress_level=3)
    else:
        image.save(file, "WEBP", quality=80, method=2)
    return file.getvalue()


def encode_labels(labels: NDArray[np.uint8 | np.bool_]) -> bytes:
    """Encodes (H, W) uint8 labels as a PNG file that `decode_labels` reads; bool becomes black and white."""
    file = io.BytesIO()
    Image.fromarray(labels).save(file, "PNG", optimize=True)
    return file.getvalue()


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decodes the first frame of a file, upright: (H, W, 3) uint8 sRGB.

    The file has one of `toygan.picture_files.FORMATS`. Greyscale, CMYK, Lab, palettes and 16 bits are
    converted. Embedded colour profiles are applied. Transparent parts become white. Only the orientation is
    read from an EXIF block. Raises BadInput for another format, for a damaged file (any error of Pillow), and
    for more than `MAX_PIXELS` pixels. The number of pixels is read from the header, before memory is
    allocated.
    """
    with _reasons():
        shown = _load_shown(data)
        return np.array(_upright(to_rgb(shown), shown.exif))


def decode_photo(data: bytes) -> NDArray[np.uint8]:
    """Decodes a training photo as `decode` does. Also raises BadInput for a side below `SHORTEST_SIDE`."""
    pixels = decode(data)
    height, width = pixels.shape[:2]
    if min(width, height) < SHORTEST_SIDE:
        raise BadInput(
            f"the picture has {width} x {height} pixels, but each side needs at least {SHORTEST_SIDE}; "
            "take a larger picture"
        )
    return pixels


def decode_labels(data: bytes) -> NDArray[np.uint8]:
    """Decodes a lossless file with one number per pixel: (H, W) uint8.

    The numbers are greys of 1 to 8 bits or palette indices. Raises BadInput as `decode` does, and for
    pictures in colour or of 16 bits, because their values are not labels.
    """
    with _reasons():
        shown = _load_shown(data)
        image = shown.image
        if image.mode not in ("1", "L", "P") or image.format not in _LOSSLESS:
            found = f"{image.format}, mode {image.mode}"
            raise BadInput(f"this is not a layout ({found}); save 8-bit labels as a grey or palette PNG")
        labels = np.array(_upright(image, shown.exif), dtype=np.uint8)
        return labels // grey_step(shown.bits) if image.mode == "L" else labels


def read_digital_source_type(data: bytes) -> str | None:
    """Reads the IPTC DigitalSourceType of a JPEG, PNG or WebP file. Returns None if the file has none.

    Raises BadInput as `decode` does.
    """
    with _reasons():
        packet = load_image(data).info.get("xmp")
    return digital_source_type(packet) if isinstance(packet, bytes) else None


@contextmanager
def _reasons() -> Iterator[None]:
    """Turns any error of a decoder into BadInput. Pillow has no error class of its own for damaged files."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        said = str(error) or type(error).__name__
        raise BadInput(f"the picture is damaged ({said}); save or upload it again") from error


def _load_shown(data: bytes) -> Shown:
    parts = taken_apart(data)
    image = load_image(parts.file)
    exif, profile = parts.exif or image.info.get("exif"), parts.profile or image.info.get("icc_profile")
    bits = data[_PNG_BITS] if image.format == "PNG" else 8
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = int(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))[0])
    return Shown(image, exif, profile if isinstance(profile, bytes) else None, bits)


def load_image(data: bytes) -> Image.Image:
    """Loads the first frame of a file as it is stored, with Pillow's information about the file.

    Loads the whole file, not only its header, because the XMP packet of a PNG may come after the pixels.
    Raises BadInput for another format and for too many pixels, and any error of Pillow for a damaged file.
    """
    image_format = format_of(data[:HEAD_BYTES])
    if image_format is None:
        raise BadInput(f"this is not a {READABLE} picture; convert it to one of these")
    if image_format == "HEIF":
        _read_heif()
    try:
        image = Image.open(io.BytesIO(data), formats=[image_format])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadInput(f"the picture is too large ({error}); scale it down first") from error
    except UnidentifiedImageError as error:
        raise BadInput(f"the {image_format} picture is damaged; save or upload it again") from error
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height} pixels"
        raise BadInput(f"the picture has {size}, more than {MAX_PIXELS}; scale it down first")
    image.load()
    return image


@cache
def _read_heif() -> None:
    """Makes Pillow read HEIF, the format of phone cameras. The HEIF reader itself turns pictures upright."""
    from pillow_heif import register_heif_opener  # slow to import, and few files need it

    register_heif_opener(thumbnails=False)


def _upright(image: Image.Image, exif: bytes | None) -> Image.Image:
    """Rotates or flips the image upright, as its EXIF block says.

    A TIFF stays as it is, because Pillow has turned it on loading.
    """
    turn = _TRANSPOSED.get(orientation(exif)) if exif else None
    return image if turn is None else image.transpose(turn)
