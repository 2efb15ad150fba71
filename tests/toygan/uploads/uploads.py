"""Uploads for tests: files in a store's folder of photos."""

import io

from PIL import Image

from toygan.storage.store import ObjectStore

CATEGORIES = ("brick", "plant")


def picture(number: int, *, side: int = 40, image_format: str = "PNG") -> bytes:
    """A picture of `side` x `side` pixels; another number, another content."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), (number % 256, number // 256, 90)).save(file, image_format)
    return file.getvalue()


def upload(store: ObjectStore, numbers: range, *, category: str = "brick") -> list[str]:
    """Uploads one picture a number, each of a product of its own; returns the keys."""
    keys = [f"photos/{category}/sku-{number}/front.png" for number in numbers]
    for key, number in zip(keys, numbers, strict=True):
        store.put(key, picture(number))
    return keys
