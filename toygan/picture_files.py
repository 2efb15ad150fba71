"""Reads the parts of a picture's file around its pixels: the format, the orientation and the colour profile.

Only parts that change the look of a picture are read. So damaged texts, dates, thumbnails and camera data do
not make a picture unusable.
"""

import struct
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from toygan.errors import BadInput

FORMATS: Final = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "GIF", "TIFF", "BMP")  # Pillow's names
READABLE: Final = "JPEG, PNG, WebP, AVIF, HEIC, GIF, TIFF or BMP"
EXTENSIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "JPEG": "jpg",
        "PNG": "png",
        "WEBP": "webp",
        "AVIF": "avif",
        "HEIF": "heic",
        "GIF": "gif",
        "TIFF": "tiff",
        "BMP": "bmp",
    }
)
HEAD_BYTES: Final = 64  # the first bytes of a file, enough for `format_of`
MAX_FILE_BYTES: Final = 64 * 2**20
# limit of a decompressed colour profile; printers' profiles have up to 4 MB
MAX_PROFILE_BYTES: Final = 32 * 2**20

_SIGNATURES: Final = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}
# The brands of HEIF (ISO/IEC 23008-12) that phones write, and the brands of AVIF. AVIF files may name HEIF
# brands, too.
_BRANDS: Final = {
    "AVIF": frozenset({b"avif", b"avis"}),
    "HEIF": frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}),
}
_BMP_HEADERS: Final = frozenset({12, 40, 52, 56, 64, 108, 124})  # the header size in bytes of each version
_PNG_SHOWN: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})

_EXIF: Final = b"Exif\0\0"
_APP1: Final = 0xE1
_NOT_SHOWN: Final = frozenset(
    {*range(0xE1, 0xEE), 0xEF, 0xFE}
)  # JFIF (0) and Adobe (14) are kept: they define colours
# The reading of segments stops at these markers: start of the pixels, end of the file, markers without a
# length.
_NO_SEGMENT: Final = frozenset(
    {b"\xda", b"", b"\0", b"\1", b"\xff", *(bytes([n]) for n in range(0xD0, 0xDA))}
)

_ORIENTATION: Final = 0x0112
_INTEGERS: Final = {1: "B", 3: "H", 4: "I"}  # the types of EXIF entries that hold whole numbers
_MAX_ENTRIES: Final = 1000


class Parts(NamedTuple):
    """A picture file without unneeded parts, and the EXIF block and the colour profile that were removed from
    it.
    """

    file: bytes
    exif: bytes | None = None
    profile: bytes | None = None  # ICC, inflated


def check_size(size: int) -> None:
    """Raises BadInput for a file of more than `MAX_FILE_BYTES` bytes. Call it before the file is read."""
    if size > MAX_FILE_BYTES:
        raise BadInput(f"the file has {size:,} bytes, more than {MAX_FILE_BYTES:,}; scale the picture down")


def format_of(head: bytes) -> str | None:
    """Detects one of `FORMATS` by the first `HEAD_BYTES` of a file. Returns None for another format.

    The name of the file does not count, because extensions are often wrong.
    """
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        brands = head[8 : min(int.from_bytes(head[:4]), HEAD_BYTES)]
        named = {brands[at : at + 4] for at in range(0, len(brands), 4)}
        return next((name for name, known in _BRANDS.items() if known & named), None)
    if head.startswith(b"BM"):
        return "BMP" if int.from_bytes(head[14:18], "little") in _BMP_HEADERS else None
    return next((name for start, name in _SIGNATURES.items() if head.startswith(start)), None)


def taken_apart(data: bytes) -> Parts:
    """Removes texts, dates, thumbnails and further frames from a JPEG or PNG file.

    The pixels do not depend on these parts, which may have any size, and some of which Pillow cannot read.
    Files of other formats stay as they are. Raises BadInput for a PNG file with a damaged chunk or with a
    profile of more than `MAX_PROFILE_BYTES`.
    """
    match format_of(data[:HEAD_BYTES]):
        case "PNG":
            return _png_parts(data)
        case "JPEG":
            return _jpeg_parts(data)
    return Parts(data)


def _png_parts(data: bytes) -> Parts:
    """Splits a PNG file into the parts of `Parts`. Source: PNG specification, third edition, section 5."""
    kept, exif, profile, position = [data[:8]], None, None, 8
    while position + 12 <= len(data):
        kind, body = data[position + 4 : position + 8], position + 8
        end = body + int.from_bytes(data[position : position + 4])
        if end + 4 > len(data) or zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4]):
            # Pillow does not verify the checksums of pixels.
            name = kind.decode("ascii", "backslashreplace")
            raise BadInput(f"the picture is damaged in its chunk {name!r}; save or upload it again")
        if kind in _PNG_SHOWN:
            kept.append(data[position : end + 4])
        elif kind == b"eXIf":
            exif = data[body:end]
        elif kind == b"iCCP":
            profile = _inflated_profile(data[body:end])
        position = end + 4
        if kind == b"IEND":
            break
    return Parts(b"".join(kept), exif, profile)


def _jpeg_parts(data: bytes) -> Parts:
    """Splits a JPEG file into the parts of `Parts`. The profile stays in the file, and the decoder joins its
    segments.

    Source: ITU-T T.81, B.1; Exif 2.32, 4.7.
    """
    kept, exif, position = [data[:2]], b"", 2
    while data[position : position + 1] == b"\xff" and data[position + 1 : position + 2] not in _NO_SEGMENT:
        marker, end = data[position + 1], position + 2 + int.from_bytes(data[position + 2 : position + 4])
        body = data[position + 4 : end]
        if marker == _APP1 and body.startswith(_EXIF):
            exif += body.removeprefix(_EXIF)
        elif marker not in _NOT_SHOWN or body.startswith(b"ICC_PROFILE\0"):
            kept.append(data[position:end])
        position = end
    return Parts(b"".join((*kept, data[position:])), exif)


def orientation(exif: bytes) -> int:
    """Reads the entry Orientation of an EXIF block: 1 to 8. Returns 1 if this entry is missing or unreadable.

    Other entries are not read, because those of cameras and editors are sometimes malformed while Orientation
    is valid. Source: Exif 2.32 (CIPA DC-008), 4.6.2 and 4.6.4.
    """
    while exif.startswith(_EXIF):
        exif = exif.removeprefix(_EXIF)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    try:
        if order is None:
            return 1
        (at,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, at)
        for entry in range(at + 2, at + 2 + 12 * min(entries, _MAX_ENTRIES), 12):
            tag, number_type, _ = struct.unpack_from(f"{order}HHI", exif, entry)
            if tag == _ORIENTATION and number_type in _INTEGERS:
                (value,) = struct.unpack_from(f"{order}{_INTEGERS[number_type]}", exif, entry + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:  # the block is shorter than its entries say
        pass
    return 1


def _inflated_profile(body: bytes) -> bytes | None:
    """Decompresses the profile of an iCCP chunk.

    Returns None for a damaged profile, which image viewers ignore, too.
    """
    _, _, rest = body.partition(b"\0")
    inflate = zlib.decompressobj()
    try:
        profile = inflate.decompress(rest[1:], MAX_PROFILE_BYTES)
    except zlib.error:
        return None
    if inflate.unconsumed_tail:
        raise BadInput(
            f"its colour profile (chunk iCCP) has more than {MAX_PROFILE_BYTES:,} bytes; save it without one"
        )
    return profile or None
