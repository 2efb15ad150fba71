"""The mark is read back by parsers of the containers that share no code with the writer."""

import io
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, get_args
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from toygan import images
from toygan.errors import BadInput
from toygan.images import ImageFormat, decode, encode, from_uint8, read_digital_source_type, to_uint8

FORMATS: tuple[ImageFormat, ...] = get_args(ImageFormat)
TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def product(side: int = 64) -> NDArray[np.uint8]:
    """A red disc on white with a soft edge."""
    rows, columns = np.mgrid[:side, :side] / (side - 1) - 0.5
    cover = np.clip((0.3 - np.hypot(rows, columns)) * 10, 0, 1)[..., None]
    pixels: NDArray[np.uint8] = np.round(255 * (1 - cover) + np.array([200, 20, 30]) * cover).astype(np.uint8)
    return pixels


def saved(image: Image.Image, image_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def webp_packets(data: bytes) -> Iterator[bytes]:
    assert data[:4] == b"RIFF"
    assert data[8:12] == b"WEBP"
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    assert data[12:16] == b"VP8X"
    assert data[20] & 0b100  # the flag that promises an XMP chunk
    position = 12
    while position < len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        if data[position : position + 4] == b"XMP ":
            yield data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2


def jpeg_packets(data: bytes) -> Iterator[bytes]:
    assert data[:2] == b"\xff\xd8"
    position = 2
    while data[position + 1] != 0xDA:
        size = int.from_bytes(data[position + 2 : position + 4])
        body = data[position + 4 : position + 2 + size]
        header = b"http://ns.adobe.com/xap/1.0/\0"
        if data[position + 1] == 0xE1 and body.startswith(header):
            yield body.removeprefix(header)
        position += 2 + size


def png_packets(data: bytes) -> Iterator[bytes]:
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    position = 8
    while position < len(data):
        size = int.from_bytes(data[position : position + 4])
        kind, body = data[position + 4 : position + 8], data[position + 8 : position + 8 + size]
        assert zlib.crc32(kind + body) == int.from_bytes(data[position + 8 + size : position + 12 + size])
        if kind == b"iTXt" and body.startswith(b"XML:com.adobe.xmp\0"):
            # Not compressed, no language, no translated keyword.
            assert body[18:22] == bytes(4)
            yield body[22:]
        position += 12 + size


PACKETS = {"webp": webp_packets, "jpg": jpeg_packets, "png": png_packets}


@pytest.mark.parametrize("image_format", FORMATS)
def test_every_format_says_that_the_picture_is_synthetic(image_format: ImageFormat) -> None:
    data = encode(product(), image_format)
    [packet] = PACKETS[image_format](data)
    assert packet.startswith(b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>')
    tag = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    rdf = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
    found = ElementTree.fromstring(packet).find(f"{rdf}RDF/{rdf}Description/{tag}")
    assert found is not None
    assert found.text == TRAINED
    assert read_digital_source_type(data) == TRAINED


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.service
def test_the_same_pixels_give_the_same_bytes_in_another_process(image_format: ImageFormat) -> None:
    code = (
        "import sys; from toygan.images import decode, encode\n"
        "sys.stdout.buffer.write(encode(decode(sys.stdin.buffer.read()), sys.argv[1]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, image_format],
        input=encode(product(), "png"),
        capture_output=True,
        check=True,
    )
    assert run.stdout == encode(product(), image_format)


@pytest.mark.parametrize(("image_format", "mean_error"), [("webp", 2.0), ("jpg", 1.0), ("png", 0.0)])
def test_a_picture_survives_encoding(image_format: ImageFormat, mean_error: float) -> None:
    back = decode(encode(product(), image_format))
    assert back.shape == (64, 64, 3)
    assert back.dtype == np.uint8
    assert np.abs(back.astype(int) - product()).mean() <= mean_error
    assert back.flags.writeable


def test_mime_types_cover_the_formats() -> None:
    assert set(images.MIME_TYPES) == set(FORMATS)
    for image_format in FORMATS:
        with Image.open(io.BytesIO(encode(product(), image_format))) as image:
            assert image.get_format_mimetype() == images.MIME_TYPES[image_format]


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8)]
)
def test_encode_wants_rgb_bytes(pixels: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="uint8"):
        encode(pixels, "png")


def test_every_byte_value_survives_the_way_to_minus_one_and_one() -> None:
    values = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, 3, 1, 1)
    values[1, 0] = 7
    numbers = from_uint8(values)
    assert numbers.dtype == torch.float32
    assert (numbers.min().item(), numbers.max().item()) == (-1.0, 1.0)
    pixels = to_uint8(numbers)
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, values.permute(0, 2, 3, 1).numpy())


def test_numbers_outside_the_range_are_clamped_and_nan_is_grey() -> None:
    numbers = torch.tensor([-7.0, -1.0, 0.5, 1.5, torch.inf, torch.nan]).view(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert to_uint8(numbers)[0, 0, :, 0].tolist() == [0, 0, 191, 255, 255, 128]


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        (Image.new("L", (2, 2), 100), (100, 100, 100)),
        (Image.new("1", (2, 2), 1), (255, 255, 255)),
        (Image.new("RGBA", (2, 2), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (2, 2), (0, 0, 0, 128)), (127, 127, 127)),
        (Image.new("LA", (2, 2), (0, 255)), (0, 0, 0)),
        (Image.fromarray(np.full((2, 2), 51 * 257, np.uint16)), (51, 51, 51)),
        (Image.new("RGB", (2, 2), (1, 2, 3)).quantize(), (1, 2, 3)),
    ],
    ids=["grey", "1 bit", "transparent", "half transparent", "grey and alpha", "16 bits", "palette"],
)
def test_png_of_any_mode_becomes_rgb_on_white(image: Image.Image, wanted: tuple[int, int, int]) -> None:
    assert decode(saved(image, "PNG"))[0, 0].tolist() == list(wanted)


def test_cmyk_becomes_rgb() -> None:
    pixel = decode(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))[4, 4]
    assert pixel[0] > 240
    assert pixel[1:].max() < 15


def test_a_photo_held_sideways_is_turned_upright() -> None:
    image = Image.new("RGB", (8, 4), "white")
    exif = image.getexif()
    exif[0x0112] = 6  # turn by 90 degrees to view
    assert decode(saved(image, "JPEG", exif=exif)).shape == (8, 4, 3)


def test_a_colour_profile_is_applied_and_a_broken_one_left_out() -> None:
    grey = Image.new("RGB", (4, 4), (128, 128, 128))
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_allclose(decode(saved(grey, "PNG", icc_profile=lab)), 128, atol=1)
    assert decode(saved(grey, "PNG", icc_profile=b"no profile"))[0, 0].tolist() == [128, 128, 128]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        saved(Image.new("RGB", (4, 4)), "ICO"),
        saved(Image.new("RGB", (4, 4)), "PPM"),
        b"%!PS-Adobe-3.0",
    ],
    ids=["empty", "text", "icon", "ppm", "postscript"],
)
def test_other_files_are_refused_with_the_remedy(data: bytes) -> None:
    with pytest.raises(
        BadInput, match="not a JPEG, PNG, WebP, AVIF, HEIC, GIF, TIFF or BMP picture; convert it"
    ):
        decode(data)


@pytest.mark.parametrize("side", [8001, 12000, 50000])
def test_a_decompression_bomb_is_refused_by_its_header(side: int) -> None:
    header = b"IHDR" + side.to_bytes(4) + side.to_bytes(4) + bytes([8, 2, 0, 0, 0])
    body = b"IDAT" + zlib.compress(b"")
    chunks = [len(chunk[4:]).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4) for chunk in (header, body)]
    with (
        pytest.warns() if 9500 < side < 13300 else nullcontext(),
        pytest.raises(BadInput, match="scale it down"),
    ):
        decode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


@pytest.mark.parametrize("image_format", FORMATS)
def test_a_truncated_file_is_refused(image_format: ImageFormat) -> None:
    data = encode(product(), image_format)
    with pytest.raises(BadInput, match=r"again|not a JPEG"):
        decode(data[: len(data) * 2 // 3])


@settings(max_examples=150, deadline=None)
@given(data=st.data(), image_format=st.sampled_from(FORMATS))
def test_damaged_bytes_are_decoded_or_refused_but_never_crash(
    data: st.DataObject, image_format: ImageFormat
) -> None:
    damaged = bytearray(encode(product(16), image_format))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    for read in (decode, read_digital_source_type):
        try:
            read(bytes(damaged))
        except BadInput:
            continue


def with_xmp(description: str) -> bytes:
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" {description}'
        "</rdf:RDF></x:xmpmeta>"
    )
    return saved(Image.new("RGB", (4, 4)), "JPEG", xmp=packet.encode())


@pytest.mark.parametrize(
    ("description", "wanted"),
    [
        ('e:DigitalSourceType="urn:a"/>', "urn:a"),
        ('><e:DigitalSourceType rdf:resource="urn:b"/></rdf:Description>', "urn:b"),
        ("><e:DigitalSourceType> urn:c </e:DigitalSourceType></rdf:Description>", "urn:c"),
        ("/>", None),
        ("not XML", None),
    ],
)
def test_the_mark_of_other_writers_is_read_too(description: str, wanted: str | None) -> None:
    assert read_digital_source_type(with_xmp(description)) == wanted


def test_a_photo_without_a_mark_has_none() -> None:
    assert read_digital_source_type(saved(Image.new("RGB", (4, 4)), "PNG")) is None


@pytest.mark.service
def test_a_process_that_only_encodes_does_not_load_torch() -> None:
    code = "import sys, toygan.images; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
