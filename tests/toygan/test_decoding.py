"""Files with any metadata decode to the same pixels as without it, or raise BadInput with a reason."""

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tests.pictures import (
    ORIENTATIONS,
    Pixels,
    chunk,
    exif_block,
    in_srgb,
    jpeg_extras,
    png,
    png_extras,
    saved,
    with_segments,
)
from tests.toygan.random_pictures import LINEAR, WIDE, as_rgb, is_like, upright
from toygan.errors import BadInput
from toygan.images import decode

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
