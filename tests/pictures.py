"""Pictures of every format and mode with whatever cameras, editors and print shops put beside the pixels.

The containers are written here, byte by byte, so that they can hold what no library writes.
"""

import io
import struct
import zlib
from collections.abc import Callable
from random import Random
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Pixels = NDArray[np.uint8]  # (H, W, 3), or (H, W)

ORIENTATIONS: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}
TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}


def saved(image: Image.Image, image_format: str, **options: Any) -> bytes:
    """The file that Pillow makes of it."""
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def _s15(number: float) -> bytes:
    return struct.pack(">i", round(number * 65536))


def wide_profile(notes: int = 0) -> bytes:
    """A wide-gamut RGB profile: the published primaries of Adobe RGB (1998), and a gamma of 2.2.

    `notes` bytes of text make it as large as those of printers are.
    """
    name = b"a wide RGB\0"
    gamma = b"curv\0\0\0\0" + struct.pack(">IH", 1, 563) + b"\0\0"
    tags = [
        (b"desc", b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + b"\0" * 78),
        (b"cprt", b"text\0\0\0\0none\0" + b" " * notes + b"\0"),
        *((kind, b"XYZ \0\0\0\0" + b"".join(map(_s15, xyz))) for kind, xyz in PRIMARIES.items()),
        *((kind, gamma) for kind in (b"rTRC", b"gTRC", b"bTRC")),
    ]
    return _profile(b"RGB ", tags)


def grey_profile() -> bytes:
    """A grey profile whose greys are linear, so that applying it cannot be overlooked."""
    name = b"linear grey\0"
    return _profile(
        b"GRAY",
        [
            (b"desc", b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + b"\0" * 78),
            (b"cprt", b"text\0\0\0\0none\0"),
            (b"wtpt", b"XYZ \0\0\0\0" + b"".join(map(_s15, PRIMARIES[b"wtpt"]))),
            (b"kTRC", b"curv\0\0\0\0" + struct.pack(">I", 0)),
        ],
    )


PRIMARIES = {
    b"wtpt": (0.9642, 1.0, 0.8249),
    b"rXYZ": (0.60974, 0.31111, 0.01947),
    b"gXYZ": (0.20528, 0.62567, 0.06087),
    b"bXYZ": (0.14919, 0.06322, 0.74457),
}


def _profile(space: bytes, tags: list[tuple[bytes, bytes]]) -> bytes:
    at, table, data = 132 + 12 * len(tags), b"", b""
    for tag, body in tags:
        padded = body + b"\0" * (-len(body) % 4)
        table += tag + struct.pack(">II", at + len(data), len(body))
        data += padded
    head = struct.pack(">I", at + len(data)) + b"lcms\x02\x40\0\0mntr" + space + b"XYZ "
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acspAPPL\0\0\0\0nonenone" + b"\0" * 12
    head += b"".join(map(_s15, PRIMARIES[b"wtpt"])) + b"lcms"
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def in_srgb(pixels: Pixels, profile: bytes) -> Pixels:
    """(H, W, 3) or (H, W) in the colours of a profile, as sRGB."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    image = Image.fromarray(np.ascontiguousarray(pixels))
    converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert converted is not None
    return np.array(converted)


def exif_block(random: Random, orientation: int | None) -> bytes:
    """An EXIF block with the orientation at a random place among entries that are often malformed."""
    order = random.choice("<>")
    entries = [_entry(random, order) for _ in range(random.randrange(6))]
    if orientation is not None:
        value = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
        entries.insert(random.randrange(len(entries) + 1), value)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    next_directory = random.choice([0, 0, 0, 8, 9999, 2**32 - 1])
    body = struct.pack(f"{order}H", len(entries)) + b"".join(entries)
    return head + body + struct.pack(f"{order}I", next_directory) + random.randbytes(random.randrange(40))


def _entry(random: Random, order: str) -> bytes:
    tag = random.choice(
        [0x010F, 0x011A, 0x011B, 0x0128, 0x8769, 0x8825, 0x927C, 0xA005, random.randrange(2**16)]
    )
    if tag == 0x0112:
        tag = 0x0113
    kind = random.choice([*TYPE_SIZES, 0, 13, 99])
    count = random.choice([0, 1, 1, 2, 3, 100, 2**31])
    return struct.pack(f"{order}HHI", tag, kind, count) + random.randbytes(4)


# --- PNG


def chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    rows: NDArray[Any], bits: int, colour_type: int, *, more: bytes = b"", before_pixels: bytes = b""
) -> bytes:
    """A PNG file of (H, W) or (H, W, channels) numbers; `more` chunks behind its header."""
    height, width = rows.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    lines = b"".join(b"\0" + _packed(row, bits) for row in rows)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + more
        + before_pixels
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def _packed(row: NDArray[Any], bits: int) -> bytes:
    if bits >= 8:
        return row.astype(">u2" if bits == 16 else np.uint8).tobytes()
    numbers = np.zeros(-(-len(row) * bits // 8) * 8 // bits, np.uint8)
    numbers[: len(row)] = row
    shifts = np.arange(8 - bits, -1, -bits)
    return bytes((numbers.reshape(-1, 8 // bits) << shifts).sum(axis=1).astype(np.uint8))


def png_extras(random: Random, exif: bytes | None, profile: bytes | None) -> bytes:
    """Chunks that a picture is not shown by, among them the two that it is."""
    chunks = [_text_chunk(random) for _ in range(random.randrange(4))]
    chunks += [
        chunk(kind, random.randbytes(random.randrange(12)))
        for kind in random.sample([b"pHYs", b"tIME", b"prVt", b"sPLT", b"acTL", b"fcTL", b"gAMA"], 2)
    ]
    if exif is not None:
        chunks.append(chunk(b"eXIf", exif))
    if profile is not None:
        chunks.append(chunk(b"iCCP", b"a profile\0\0" + zlib.compress(profile, 1)))
    random.shuffle(chunks)
    return b"".join(chunks)


def _text_chunk(random: Random) -> bytes:
    keyword = random.choice(
        [
            b"Comment",
            b"transparency",
            b"icc_profile",
            b"exif",
            b"gamma",
            b"Raw profile type xmp",
            b"\xff\xfe",
            b"",
        ]
    )
    text = random.randbytes(random.choice([0, 3, 200])) + b"a" * random.choice([0, 0, 0, 0, 2_000_000])
    match random.randrange(3):
        case 0:
            return chunk(b"tEXt", keyword + b"\0" + text[:5000])
        case 1:
            return chunk(
                b"zTXt", keyword + b"\0" + bytes([random.choice([0, 0, 7])]) + zlib.compress(text, 1)
            )
    return chunk(b"iTXt", keyword + b"\0\1\0en\0\0" + random.choice([zlib.compress(text, 1), text[:500]]))


# --- JPEG


def segment(marker: int, body: bytes) -> bytes:
    """One marker segment of a JPEG file."""
    return struct.pack(">HH", marker, len(body) + 2) + body


def with_segments(jpeg: bytes, segments: bytes) -> bytes:
    """The segments behind the start of the file."""
    return jpeg[:2] + segments + jpeg[2:]


def jpeg_extras(random: Random, exif: bytes | None, profile: bytes | None) -> bytes:
    """Segments of cameras and editors, among them an EXIF block and a profile."""
    segments = [
        segment(
            random.choice([0xFFED, 0xFFE2, 0xFFE1, 0xFFFE, 0xFFE5]),
            random.choice(
                [
                    b"Photoshop 3.0\x008BIM\x03\xed",
                    b"MPF\0II*\0\x08\0\0\0",
                    b"http://ns.adobe.com/xap/1.0/\0",
                    b"",
                ]
            )
            + random.randbytes(random.randrange(60)),
        )
        for _ in range(random.randrange(3))
    ]
    if exif is not None:
        segments.append(segment(0xFFE1, b"Exif\0\0" + exif))
    if profile is not None:
        parts = [profile[at : at + 200] for at in range(0, len(profile), 200)]
        segments += [
            segment(0xFFE2, b"ICC_PROFILE\0" + bytes([number, len(parts)]) + part)
            for number, part in enumerate(parts, 1)
        ]
    return b"".join(segments)


# --- TIFF


def tiff(data: bytes, size: tuple[int, int], bits: int, photometric: int, order: Literal["<", ">"]) -> bytes:
    """A TIFF file of one uncompressed strip of grey; `photometric` 0 has white at 0, 1 black."""
    width, height = size
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric}
    tags |= {273: 8 + 2 + 12 * 9 + 4, 277: 1, 278: height, 279: len(data)}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, number) for tag, number in tags.items())
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return head + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + data
