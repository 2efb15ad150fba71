"""What the decoders do with profiles, transparency, labels and damage."""

import zlib
from typing import Literal

import numpy as np
import pytest
from PIL import Image
from pillow_heif import register_heif_opener

from tests.pictures import (
    ORIENTATIONS,
    chunk,
    in_srgb,
    png,
    saved,
    tiff,
    wide_profile,
)
from tests.toygan.random_pictures import LINEAR, WIDE, as_rgb, is_like, upright
from toygan import images
from toygan.errors import BadInput
from toygan.images import decode, decode_labels, decode_photo
from toygan.picture_files import EXTENSIONS, FORMATS, HEAD_BYTES, MAX_PROFILE_BYTES, format_of


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_a_malformed_entry_does_not_hide_the_orientation(image_format: str, orientation: int) -> None:
    """XResolution as text, which Pillow cannot write back."""
    pixels = as_rgb(np.add.outer(np.arange(0, 160, 10), np.arange(0, 90, 10)))
    entries = [
        (0x011A, 2, 4, b"72\0\0"),
        (0x0112, 3, 1, bytes([0, orientation, 0, 0])),
        (0x8825, 13, 9, b"\xff" * 4),
    ]
    block = b"MM\0*\0\0\0\x08" + len(entries).to_bytes(2)
    block += b"".join(
        tag.to_bytes(2) + kind.to_bytes(2) + count.to_bytes(4) + value for tag, kind, count, value in entries
    )
    data = saved(Image.fromarray(pixels), image_format, lossless=True, quality=95, exif=b"Exif\0\0" + block)
    assert is_like(decode(data), upright(pixels, orientation), 6)


@pytest.mark.parametrize("image_format", ["PNG", "GIF", "TIFF"])
def test_a_palette_is_in_the_colours_of_its_profile(image_format: str) -> None:
    pixels = np.full((20, 30, 3), 255, np.uint8)
    pixels[5:15, 5:25] = (60, 190, 70)
    palette = saved(Image.fromarray(pixels).quantize(16), image_format, icc_profile=WIDE)
    twin = decode(saved(Image.fromarray(pixels), "PNG", icc_profile=WIDE))
    assert twin[10, 10].tolist() != [60, 190, 70]
    if image_format == "GIF":  # cannot hold a profile in a way that viewers know
        twin = pixels
    assert is_like(decode(palette), twin, 3)


def test_grey_of_two_bits_with_a_transparent_value_is_laid_on_white() -> None:
    values = np.array([[0, 1], [2, 3]])
    data = png(values, 2, 0, before_pixels=chunk(b"tRNS", b"\0\1"))
    assert decode(data)[..., 0].tolist() == [[0, 255], [170, 255]]


def test_transparent_values_count_the_bits_that_the_picture_has() -> None:
    """Other bits are ignored. Source: PNG specification, third edition, 11.3.1.1."""
    data = png(np.array([[7, 9]]), 8, 0, before_pixels=chunk(b"tRNS", b"\x33\x07"))
    assert decode(data)[..., 0].tolist() == [[255, 9]]


def test_a_text_called_transparency_makes_nothing_transparent() -> None:
    data = png(np.full((2, 2), 50), 8, 0, more=chunk(b"tEXt", b"transparency\x0050"))
    assert (decode(data) == 50).all()


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_texts_and_profiles_may_be_large(kind: bytes) -> None:
    large = zlib.compress(wide_profile(notes=9_000_000) if kind == b"iCCP" else b"a" * 90_000_000, 1)
    head = {b"zTXt": b"Notes\0\0", b"iTXt": b"Notes\0\1\0\0\0", b"iCCP": b"wide\0\0"}[kind]
    pixels = np.full((3, 3, 3), (60, 190, 70), np.uint8)
    wanted = in_srgb(pixels, WIDE) if kind == b"iCCP" else pixels
    assert is_like(decode(png(pixels, 8, 2, more=chunk(kind, head + large))), wanted, 1)


def test_a_profile_of_any_size_does_not_fill_the_memory() -> None:
    body = b"wide\0\0" + zlib.compress(bytes(MAX_PROFILE_BYTES + 1), 1)
    with pytest.raises(
        BadInput, match=r"its colour profile \(chunk iCCP\) has more than 33,554,432 bytes; save"
    ):
        decode(png(np.zeros((2, 2)), 8, 0, more=chunk(b"iCCP", body)))


def test_damaged_pixels_of_a_png_are_no_other_pixels() -> None:
    """Pillow does not verify their checksum."""
    data = bytearray(png(np.arange(100).reshape(10, 10), 8, 0))
    at = data.index(b"IDAT") + 20
    data[at] ^= 1
    with pytest.raises(BadInput, match="damaged in its chunk 'IDAT'; save or upload it again"):
        decode(bytes(data))


@pytest.mark.parametrize("order", ["<", ">"])
def test_grey_of_a_tiff_is_stretched_by_the_bits_it_has(order: Literal["<", ">"]) -> None:
    assert decode(tiff(b"\x06\x4c\x80", (2, 1), 12, 1, "<"))[..., 0].tolist() == [[6, 200]]
    two_bytes = np.array([100 * 256, 200 * 256], f"{order}u2").tobytes()
    assert decode(tiff(two_bytes, (2, 1), 16, 1, order))[..., 0].tolist() == [[100, 200]]


def test_white_may_be_zero_in_a_tiff() -> None:
    data = np.array([255 * 256, 55 * 256], "<u2").tobytes()
    assert decode(tiff(data, (2, 1), 16, 0, "<"))[..., 0].tolist() == [[0, 200]]
    assert decode(tiff(b"\xff\x37", (2, 1), 8, 0, "<"))[..., 0].tolist() == [[0, 200]]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_of_32_bits_are_no_picture(mode: str) -> None:
    with pytest.raises(BadInput, match="32-bit numbers; save it with 8 or 16 bits a channel"):
        decode(saved(Image.new(mode, (4, 4), 7), "TIFF"))


def test_lab_becomes_rgb() -> None:
    lab = Image.new("RGB", (4, 4), (200, 30, 40)).convert("LAB")
    assert is_like(decode(saved(lab, "TIFF")), np.full((4, 4, 3), (200, 30, 40), np.uint8), 3)


def test_grey_is_in_the_colours_of_an_rgb_profile_as_its_rgb_twin_is() -> None:
    grey = Image.linear_gradient("L")
    for image_format in ("PNG", "TIFF"):
        twins = [saved(image, image_format, icc_profile=WIDE) for image in (grey, grey.convert("RGB"))]
        assert is_like(decode(twins[0]), decode(twins[1]), 1)


def test_a_profile_for_other_colours_is_left_out() -> None:
    coloured = Image.new("RGB", (4, 4), (200, 30, 40))
    assert (decode(saved(coloured, "PNG", icc_profile=LINEAR)) == (200, 30, 40)).all()
    inks = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    assert is_like(decode(saved(inks, "JPEG", icc_profile=WIDE)), decode(saved(inks, "JPEG")), 0)


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_of_an_animation_the_first_frame_counts(image_format: str) -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = saved(frames[0], image_format, save_all=True, append_images=frames[1:], **options)
    assert is_like(decode(data), np.full((30, 40, 3), (255, 0, 0), np.uint8), 8)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_labels_of_any_depth_are_the_numbers_in_the_file(bits: int) -> None:
    labels = np.arange(6).reshape(2, 3) % 2**bits
    palette = chunk(b"PLTE", bytes(2**bits * 3))
    for colour_type, before in ((0, b""), (3, palette)):
        data = png(labels, bits, colour_type, before_pixels=before)
        assert decode_labels(data).tolist() == labels.tolist()


def test_labels_are_turned_as_their_pictures_are() -> None:
    labels = np.arange(6).reshape(2, 3)
    block = b"MM\0*\0\0\0\x08\0\1" + bytes.fromhex("0112 0003 00000001 0006 0000")
    data = png(labels, 8, 0, more=chunk(b"eXIf", block))
    assert decode_labels(data).tolist() == np.rot90(labels, -1).tolist()


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "AVIF"])
def test_labels_are_not_read_from_files_that_change_numbers(image_format: str) -> None:
    with pytest.raises(BadInput, match=r"not a layout .* save 8-bit labels as a grey or palette PNG"):
        decode_labels(saved(Image.new("L", (8, 8), 3), image_format))


@pytest.mark.parametrize("size", [(31, 400), (400, 31), (1, 1), (2, 4000)])
def test_a_photo_has_a_shortest_side(size: tuple[int, int]) -> None:
    data = saved(Image.new("RGB", size), "PNG")
    assert decode(data).shape == (size[1], size[0], 3)
    with pytest.raises(
        BadInput, match=f"has {size[0]} x {size[1]} pixels, but each side needs at least 32; take a larger"
    ):
        decode_photo(data)


@pytest.mark.parametrize(
    "error", [MemoryError(), RecursionError("deep"), OverflowError("large"), KeyError("x")]
)
def test_whatever_pillow_raises_is_a_reason(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(Image.new("RGB", (40, 40)), "BMP")

    def load(self: object) -> None:
        raise error

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    for read in (decode, decode_photo, decode_labels, images.read_digital_source_type):
        with pytest.raises(BadInput, match=r"the picture is damaged \(.+\); save or upload it again"):
            read(data)


@pytest.mark.parametrize("image_format", FORMATS)
def test_the_format_is_known_by_the_content(image_format: str) -> None:
    register_heif_opener()
    data = saved(Image.new("RGB", (8, 8)), image_format)
    assert format_of(data[:HEAD_BYTES]) == image_format
    assert EXTENSIONS[image_format] == image_format.lower().replace("jpeg", "jpg").replace("heif", "heic")


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"BM",
        b"BMW is a make of cars, and no bitmap",
        b"RIFF0000WAVEfmt ",
        b"\0\0\0\x18ftypisom\0\0\0\0isommp41",
    ],
)
def test_other_content_has_no_format(head: bytes) -> None:
    assert format_of(head) is None
