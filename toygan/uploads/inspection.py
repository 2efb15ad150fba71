"""Inspects one uploaded photo: whether its name is valid, and whether a model can learn from it."""

from hashlib import sha256
from typing import Any, NamedTuple

import imagehash
from PIL import Image

from toygan.data.split import split_of_upload
from toygan.errors import BadInput
from toygan.images import decode_photo
from toygan.picture_files import EXTENSIONS, HEAD_BYTES, format_of
from toygan.storage.keys import PHOTOS_PREFIX, photo_key

_PHOTO_ID_LETTERS = 20


class PhotoName(NamedTuple):
    """The category and sku in the key of an upload."""

    category: str
    sku: str


def parse_photo_key(key: str) -> PhotoName:
    """Parses a key; raises BadInput unless it is `photos/<category>/<sku>/<file>` with well-formed parts."""
    parts = key.removeprefix(PHOTOS_PREFIX).split("/")
    if len(parts) != 3:
        raise BadInput(f"its place is not {PHOTOS_PREFIX}<category>/<sku>/<file>; move it there")
    category, sku, file = parts
    photo_key(category, sku, file)
    return PhotoName(category, sku)


def inspect_photo(key: str, data: bytes) -> dict[str, Any]:
    """Decodes and measures a file; returns its row of PHOTO_INDEX without `indexed_at` and colour.

    Raises BadInput as `toygan.images.decode_photo` does.
    """
    name = parse_photo_key(key)
    pixels = decode_photo(data)
    height, width = pixels.shape[:2]
    digest = sha256(data).hexdigest()
    return {
        "photo_id": digest[:_PHOTO_ID_LETTERS],
        "sku": name.sku,
        "category": name.category,
        "photo_uri": key,
        "sha256": digest,
        "bytes": len(data),
        "width": width,
        "height": height,
        "format": EXTENSIONS[format_of(data[:HEAD_BYTES]) or ""],
        "phash": str(imagehash.phash(Image.fromarray(pixels))),
        "colour_hex": None,
        "split": split_of_upload(name.sku),
    }
