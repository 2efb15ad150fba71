"""One uploaded file: what is taken from it, and what is not taken at all."""

import hashlib
import io

import imagehash
import pytest
from PIL import Image

from tests.toygan.uploads.uploads import picture
from toygan.errors import BadInput
from toygan.uploads.inspection import inspect_photo, parse_photo_key


@pytest.mark.parametrize(
    ("image_format", "name"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("BMP", "bmp")]
)
def test_the_facts_of_a_photo(image_format: str, name: str) -> None:
    file = io.BytesIO()
    image = Image.linear_gradient("L").resize((60, 40)).convert("RGB")
    image.save(file, image_format, lossless=True)
    data = file.getvalue()
    facts = inspect_photo("photos/brick/sku-1/Foto 1 (übrig).x", data)
    digest = hashlib.sha256(data).hexdigest()
    assert facts == {
        "photo_id": digest[:20],
        "sku": "sku-1",
        "category": "brick",
        "photo_uri": "photos/brick/sku-1/Foto 1 (übrig).x",
        "sha256": digest,
        "bytes": len(data),
        "width": 60,
        "height": 40,
        "format": name,
        "phash": facts["phash"],
        "colour_hex": None,
        "split": "train",
    }
    # A JPEG differs a little from what went in, its perceptual hash hardly.
    assert imagehash.hex_to_hash(facts["phash"]) - imagehash.phash(image) <= 4


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a JPEG, PNG, WebP"),
        (b"#!/bin/sh", "not a JPEG, PNG, WebP"),
        (picture(1)[:-40], "damaged"),
        (picture(1, side=31), "31 x 31 pixels"),
        (picture(1, image_format="PPM"), "not a JPEG, PNG, WebP"),
    ],
    ids=["empty", "text", "cut", "tiny", "ppm"],
)
def test_what_is_no_usable_picture_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        inspect_photo("photos/brick/sku-1/a.png", data)


def test_a_bomb_is_refused_by_its_header() -> None:
    file = io.BytesIO()
    Image.new("1", (9000, 9000)).save(file, "PNG")
    with pytest.raises(BadInput, match="scale it down"):
        inspect_photo("photos/brick/sku-1/a.png", file.getvalue())


@pytest.mark.parametrize(
    "key",
    [
        "photos/a.png",
        "photos/brick/a.png",
        "photos/brick/sku-1/more/a.png",
        "photos/brick//a.png",
        "photos/brick/sku 1/a.png",
        "photos/.brick/sku-1/a.png",
        "photos/brick/../a.png",
        "photos/brick/sku-1/.DS_Store",
        "photos/brick/sku-1/a\n.png",
    ],
)
def test_a_key_that_is_not_of_the_layout_is_refused(key: str) -> None:
    with pytest.raises(BadInput):
        parse_photo_key(key)
