"""Encodes framed pictures as files with the mark of generated pictures."""

import io
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from PIL import Image, PngImagePlugin

from toygan.channels.rules import FileFormat

MIME_TYPES: Final[Mapping[FileFormat, str]] = MappingProxyType(
    {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp", "avif": "image/avif"}
)
# AVIF and JPEG measure quality differently, so this is subtracted: AVIF of 65 looks like JPEG of about 90.
_AVIF_QUALITY_LESS: Final = 22
# AVIF first erases the faint outline of white on white. At 320 pixels one survives with this quality only.
_AVIF_FAINT: Final = 95
_AVIF_SPEED: Final = 7  # the speed of the encoder, from 0 (slow) to 10 (fast)


def encode_file(
    image: Image.Image, file_format: FileFormat, quality: int, xmp: bytes, *, is_faint: bool = False
) -> bytes:
    """Encodes RGB or RGBA with the XMP packet. The same input gives the same bytes.

    `quality` is 1..100 as JPEG counts it; PNG is lossless. `is_faint` says that outlines in the picture are
    hardly different from the ground.
    """
    file = io.BytesIO()
    match file_format:
        case "jpg":
            # With chroma at half the resolution, a red product has a pink rim.
            image.save(file, "JPEG", quality=quality, subsampling="4:4:4", optimize=True, xmp=xmp)
        case "png":
            chunks = PngImagePlugin.PngInfo()
            chunks.add_itxt("XML:com.adobe.xmp", xmp.decode())
            image.save(file, "PNG", compress_level=6, pnginfo=chunks)
        case "webp":
            # Faster methods leave traces of the product on the ground, even at the border of the frame.
            image.save(file, "WEBP", quality=quality, method=4, xmp=xmp)
        case "avif":
            quality = _AVIF_FAINT if is_faint else max(1, quality - _AVIF_QUALITY_LESS)
            # One thread for each file, because many pictures are made in parallel.
            image.save(file, "AVIF", quality=quality, speed=_AVIF_SPEED, max_threads=1, xmp=xmp)
    return file.getvalue()
