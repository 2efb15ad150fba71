"""A store with live pictures of 512 pixels, for exports."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from tests.toygan.generation.runs import MODELS, candidate, put_current, put_manifest, put_part
from tests.toygan.generation.slots import slot
from toygan.images import encode, encode_labels
from toygan.planning.settings import RunSettings
from toygan.storage.keys import condition_key, image_key
from toygan.storage.store import ObjectStore

SIDE = 512
BOX = (31, 66, 481, 446)  # left, top, right, bottom, exclusive


@dataclass(frozen=True, kw_only=True)
class Article:
    """A live picture of a product."""

    sku: str
    pixels: NDArray[np.uint8] = field(repr=False)
    image_index: int = 0
    category: str = "brick"
    title: str | None = "Brick 2 x 4"
    language: str | None = "en"
    colour: str | None = "red"
    handle: str | None = None
    layout: NDArray[np.uint8] | None = field(default=None, repr=False)


def toy(
    colour: str = "#C8141A",
    box: tuple[int, int, int, int] = BOX,
    *,
    shadow: bool = True,
    side: int = SIDE,
) -> NDArray[np.uint8]:
    """A block with a stud on a white ground, with a soft shadow."""
    left, top, right, bottom = box
    image = Image.new("RGB", (side, side), "white")
    if shadow:
        below = Image.new("L", (side, side), 0)
        reach = (right - left) // 8
        shape = (left + 20, bottom - reach // 2, right - 20, bottom + reach // 4)
        ImageDraw.Draw(below).ellipse(shape, fill=60)
        below = below.filter(ImageFilter.GaussianBlur(6))
        image = Image.composite(Image.new("RGB", image.size, (120, 120, 120)), image, below)
    draw = ImageDraw.Draw(image)
    stud = (bottom - top) // 6
    draw.rectangle((left, top + stud, right - 1, bottom - 1), fill=colour)
    draw.rectangle((left + (right - left) // 4, top, left + (right - left) // 2, top + stud), fill=colour)
    return np.asarray(image)


def layout_of(box: tuple[int, int, int, int] = BOX, side: int = SIDE) -> NDArray[np.uint8]:
    """The layout of `toy`."""
    left, top, right, bottom = box
    labels = np.zeros((side, side), np.uint8)
    stud = (bottom - top) // 6
    labels[top + stud : bottom, left:right] = 5
    labels[top : top + stud, left + (right - left) // 4 : left + (right - left) // 2 + 1] = 5
    return labels


def put_shop(store: ObjectStore, articles: Sequence[Article], run_id: str = "run-1") -> list[str]:
    """Makes the articles all that is live; returns their image ids."""
    rows = []
    for article in articles:
        file = encode(article.pixels, "webp")
        digests = {}
        if article.layout is not None:
            labels = encode_labels(article.layout)
            digests["layout"] = sha256(labels).hexdigest()
            store.put(condition_key(digests["layout"]), labels)
        row = candidate(
            slot(0, sku=article.sku, image_index=article.image_index, category=article.category),
            run_id,
            sha256=sha256(file).hexdigest(),
            bytes=len(file),
            width=article.pixels.shape[1],
            height=article.pixels.shape[0],
            title=article.title,
            language=article.language,
            colour=article.colour,
            handle=article.handle,
            condition_sha256=digests,
        )
        store.put(image_key(article.category, article.sku, row["image_id"], "webp"), file)
        rows.append(row)
    put_part(store, run_id, rows)
    put_manifest(store, run_id, RunSettings(models=MODELS))
    put_current(store, rows)
    return [row["image_id"] for row in rows]
