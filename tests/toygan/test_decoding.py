"""Files with any metadata decode to the same pixels as without it, or raise BadInput with a reason."""

import zlib
from collections.abc import Callable
from random import Random
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pillow_heif import register_heif_opener

from tests.pictures import (
    ORIENTATIONS,
    Pixels,
    chunk,
    exif_block,
    grey_profile,
    in_srgb,
    jpeg_extras,
    png,
    png_extras,
    saved,
    tiff,
    wide_profile,
    with_segments,
)
from toygan import images
from toygan.errors import BadInput
from toygan.images import decode, decode_labels, decode_photo
from toygan.picture_files import EXTENSIONS, FORMATS, HEAD_BYTES, MAX_PROFILE_BYTES, format_of

WIDE, LINEAR = wide_profile(), grey_profile()
SIGNS_OF_NO_REASON = ("NoneType", "object has no attribute", "unpack")


class Sample(NamedTuple):
    """A file, its pixels, and the place of its EXIF block with the orientation."""

    what: str
    data: bytes
    wanted: Pixels  # upright
    tolerance: int = 1
    exif: tuple[int, int] = (0, 0)


def shape(random: Random) -> tuple[int, int]:
    return random.randrange(1, 24), random.randrange(1, 24)


def numbers(random: Random, bits: int, *channels: int, size: tuple[int, int]) -> NDArray[Any]:
    """Blocks of a few values, as pictures have."""
    few = [random.randrange(2**bits) for _ in range(5)]
    generator = np.random.default_rng(random.randrange(2**32))
    return generator.choice(np.array(few, np.int64), (*size, *channels))


def on_white(colours: Pixels, opacity: NDArray[Any]) -> Pixels:
    part = opacity[..., None] / 255
    mixed: Pixels = np.round(colours * part + 255 * (1 - part)).astype(np.uint8)
    return mixed


def upright(pixels: Pixels, orientation: int | None) -> Pixels:
    return ORIENTATIONS[orientation or 1](pixels)


def as_rgb(grey: NDArray[Any]) -> Pixels:
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def shown(colours: Pixels, profile: bytes | None) -> Pixels:
    if profile is None:
        return colours
    return in_srgb(colours[..., 0] if profile == LINEAR else colours, profile)


def png_sample(random: Random) -> Sample:
    """Any colour type and depth, with or without a transparent value."""
    colour_type = random.choice([0, 2, 3, 4, 6])
    bits = random.choice({0: [1, 2, 4, 8, 16], 3: [1, 2, 4, 8]}.get(colour_type, [8, 16]))
    channels = {0: (), 2: (3,), 3: (), 4: (2,), 6: (4,)}[colour_type]
    values = numbers(random, bits, *channels, size=shape(random))
    keyed, opacity, before = random.random() < 0.5, np.full(values.shape[:2], 255), b""
    eight = (values >> 8 if bits == 16 else values * (255 // (2**bits - 1) if bits < 8 else 1)).astype(
        np.uint8
    )
    if colour_type == 3:
        palette = np.array([[random.randrange(256) for _ in range(3)] for _ in range(2**bits)], np.uint8)
        alphas = np.array([random.choice([0, 255, 128]) for _ in range(2**bits)])
        before = chunk(b"PLTE", palette.tobytes())
        colours = palette[values]
        if keyed:
            before += chunk(b"tRNS", alphas.astype(np.uint8).tobytes())
            opacity = alphas[values]
    elif colour_type in (0, 2):
        colours = as_rgb(eight) if colour_type == 0 else eight
        if keyed:
            before = chunk(b"tRNS", np.atleast_1d(values[0, 0]).astype(">u2").tobytes())
            compared = eight if colour_type == 2 else values  # of 16-bit colours Pillow keeps the upper half
            differ = compared != compared[0, 0]
            opacity = np.where(differ.any(axis=2) if colour_type == 2 else differ, 255, 0)
    else:
        colours = as_rgb(eight[..., 0]) if colour_type == 4 else eight[..., :3]
        opacity = eight[..., -1]
    profile = random.choice([None, WIDE, LINEAR if colour_type in (0, 4) else WIDE])
    orientation = random.choice([None, *ORIENTATIONS])
    exif = None if orientation is None else exif_block(random, orientation)
    more = png_extras(random, exif, profile)
    return Sample(
        f"PNG, colour type {colour_type}, {bits} bits, orientation {orientation}",
        png(values, bits, colour_type, more=more, before_pixels=before),
        upright(on_white(shown(colours, profile), opacity), orientation),
    )


def jpeg_sample(random: Random) -> Sample:
    mode = random.choice(["L", "RGB", "CMYK"])
    height, width = shape(random)
    pixels = numbers(random, 8, *{"L": (), "RGB": (3,), "CMYK": (4,)}[mode], size=(height, width))
    plain = saved(Image.fromarray(pixels.astype(np.uint8), mode), "JPEG", quality=90)
    profile = random.choice([None, WIDE, LINEAR])
    used = {"L": profile, "RGB": WIDE if profile == WIDE else None}.get(mode)
    if profile == LINEAR and mode == "RGB":
        profile = None
    orientation = random.choice([None, *ORIENTATIONS])
    exif = None if orientation is None else exif_block(random, orientation)
    data = with_segments(plain, jpeg_extras(random, exif, profile))
    start = data.find(exif) if exif else 0
    return Sample(
        f"JPEG, {mode}, orientation {orientation}",
        data,
        upright(shown(decode(plain), used), orientation),
        exif=(start, start + len(exif or b"")),
    )


def webp_sample(random: Random) -> Sample:
    pixels = numbers(random, 8, 4, size=shape(random)).astype(np.uint8)
    opaque = random.random() < 0.5
    profile = random.choice([None, WIDE])
    orientation = random.choice([None, *ORIENTATIONS])
    exif = b"" if orientation is None else exif_block(random, orientation)
    image = Image.fromarray(pixels[..., :3].copy() if opaque else pixels)
    data = saved(image, "WEBP", lossless=True, exact=True, exif=exif, icc_profile=profile or b"")
    colours = shown(np.ascontiguousarray(pixels[..., :3]), profile)
    start = data.find(exif) if exif else 0
    return Sample(
        f"WebP, {image.mode}, orientation {orientation}",
        data,
        upright(colours if opaque else on_white(colours, pixels[..., 3]), orientation),
        exif=(start, start + len(exif)),
    )


def tiff_sample(random: Random) -> Sample:
    mode = random.choice(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
    values = numbers(random, 8, *{"LA": (2,), "RGB": (3,), "RGBA": (4,)}.get(mode, ()), size=shape(random))
    profile = random.choice([None, WIDE])
    if mode == "1":
        values = values % 2 * 255
        image, colours = Image.fromarray(values.astype(np.uint8)).convert("1"), as_rgb(values)
    elif mode == "I;16":
        image, colours = Image.fromarray((values * 257).astype(np.uint16)), as_rgb(values)
    elif mode == "P":
        palette = bytes(random.randrange(256) for _ in range(768))
        image = Image.fromarray(values.astype(np.uint8))
        image.putpalette(palette)
        colours = np.frombuffer(palette, np.uint8).reshape(256, 3)[values]
    else:
        image = Image.fromarray(values.astype(np.uint8), mode)
        colours = (
            as_rgb(values[..., 0]) if mode == "LA" else as_rgb(values) if mode == "L" else values[..., :3]
        )
    colours = shown(np.ascontiguousarray(colours.astype(np.uint8)), profile)
    if mode in ("LA", "RGBA"):
        colours = on_white(colours, values[..., -1])
    orientation = random.choice([None, *ORIENTATIONS])
    tags = {} if orientation is None else {0x0112: orientation}
    compression = random.choice([None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
    data = saved(image, "TIFF", tiffinfo=tags, compression=compression, icc_profile=profile)
    what = f"TIFF, {mode}, {compression}, orientation {orientation}"
    return Sample(what, data, upright(colours, orientation))


def gif_sample(random: Random) -> Sample:
    values = numbers(random, 8, size=shape(random)).astype(np.uint8)
    palette = bytes(random.randrange(256) for _ in range(768))
    image = Image.fromarray(values)
    image.putpalette(palette)
    colours = np.frombuffer(palette, np.uint8).reshape(256, 3)[values]
    key = random.choice([None, int(values[0, 0])])
    options = {} if key is None else {"transparency": key}
    more = [image.rotate(180)] if random.random() < 0.3 else []
    data = saved(
        image,
        "GIF",
        optimize=False,
        comment=random.randbytes(20),
        append_images=more,
        save_all=True,
        **options,
    )
    return Sample("GIF", data, colours if key is None else on_white(colours, np.where(values == key, 0, 255)))


def bmp_sample(random: Random) -> Sample:
    mode = random.choice(["1", "L", "P", "RGB"])
    pixels = numbers(random, 8, 3, size=shape(random)).astype(np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    return Sample(f"BMP, {mode}", saved(image, "BMP"), np.array(image.convert("RGB")))


def avif_sample(random: Random) -> Sample:
    pixels = numbers(random, 8, 4, size=shape(random)).astype(np.uint8)
    opaque = random.random() < 0.5
    image = Image.fromarray(pixels[..., :3].copy() if opaque else pixels)
    profile = WIDE if opaque and random.random() < 0.5 else None
    orientation = random.choice(list(ORIENTATIONS))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"quality": 90, "speed": 10, "max_threads": 1}
    plain = decode(saved(image, "AVIF", **options))
    data = saved(image, "AVIF", exif=exif, icc_profile=profile, **options)
    wanted = upright(shown(plain, profile), orientation)
    return Sample(f"AVIF, {image.mode}, orientation {orientation}", data, wanted, tolerance=2)


SAMPLES: list[Callable[[Random], Sample]] = [
    *(png_sample, png_sample, png_sample, jpeg_sample, jpeg_sample, webp_sample),
    *(tiff_sample, gif_sample, bmp_sample, avif_sample),
]


def damaged(random: Random, data: bytes, where: tuple[int, int]) -> bytes:
    changed = bytearray(data)
    for _ in range(random.randrange(1, 5)):
        changed[random.randrange(*where)] = random.randrange(256)
    return bytes(changed)


def decoded(data: bytes) -> Pixels | None:
    """Decodes a file. None if it raises BadInput; any other error fails the test."""
    try:
        pixels = decode(data)
    except BadInput as error:
        reason = str(error)
    else:
        reason = ""
    assert "\n" not in reason
    assert not any(sign in reason for sign in SIGNS_OF_NO_REASON), reason
    if reason:
        return None
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.dtype == np.uint8
    return pixels


def is_like(found: Pixels, wanted: Pixels, tolerance: int) -> bool:
    return found.shape == wanted.shape and bool((np.abs(found.astype(int) - wanted) <= tolerance).all())


def check(seed: int) -> None:
    """Checks one picture, whole and damaged."""
    random = Random(seed)
    sample = random.choice(SAMPLES)(random)
    whole = decoded(sample.data)
    assert whole is not None, f"{sample.what}: it is sound"
    assert is_like(whole, sample.wanted, sample.tolerance), sample.what
    decoded(sample.data[: random.randrange(len(sample.data))])
    found = decoded(damaged(random, sample.data, (0, len(sample.data))))
    if found is not None and sample.what.startswith("PNG"):  # whose chunks have check sums
        assert is_like(found, sample.wanted, sample.tolerance), f"{sample.what}: it is damaged"
    if sample.exif[0] < sample.exif[1]:
        found = decoded(damaged(random, sample.data, sample.exif))
        assert found is not None, f"{sample.what}: its pixels are sound"
        turned = [turn(found) for turn in ORIENTATIONS.values()]
        wanted = f"{sample.what}: at most another orientation"
        assert any(is_like(each, sample.wanted, sample.tolerance) for each in turned), wanted


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_picture_decodes_as_its_plain_twin_or_says_why_not(seed: int) -> None:
    check(seed)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_five_thousand_pictures_decode_as_their_plain_twins(seed: int) -> None:
    check(seed)


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
    with pytest.raises(BadInput, match=r"damaged in its chunk 'IDAT'; save or upload it again"):
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
    with pytest.raises(BadInput, match=r"no layout .* save 8-bit labels as a grey or palette PNG"):
        decode_labels(saved(Image.new("L", (8, 8), 3), image_format))


@pytest.mark.parametrize("size", [(31, 400), (400, 31), (1, 1), (2, 4000)])
def test_a_photo_has_a_shortest_side(size: tuple[int, int]) -> None:
    data = saved(Image.new("RGB", size), "PNG")
    assert decode(data).shape == (size[1], size[0], 3)
    with pytest.raises(
        BadInput, match=f"has {size[0]} x {size[1]} pixels, less than 32 a side; take a larger"
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
