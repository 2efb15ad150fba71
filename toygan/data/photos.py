"""Product photos in memory, ready to train on."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2

from toygan.conditions.category import encode_categories
from toygan.conditions.colour import encode_colours
from toygan.conditions.image import READERS, encode_images, square
from toygan.conditions.product import ProductConditions
from toygan.data.sources import Photo, read_photos
from toygan.errors import BadInput
from toygan.images import decode
from toygan.models.layers import ImageCondition

if TYPE_CHECKING:
    from toygan.conditions.text import TextEncoder

log = logging.getLogger(__name__)

WHITE = 255


@dataclass(frozen=True, kw_only=True)
class PhotoSet:
    """N photos of one size with what is known of them."""

    images: Tensor  # (N, 3, R, R) uint8
    category: Tensor  # (N,) int64, index into `categories`
    colour: Tensor  # (N, 4) float32, see toygan.conditions.colour
    colour_hexes: tuple[str | None, ...]
    texts: tuple[str | None, ...]
    skus: tuple[str, ...]
    categories: tuple[str, ...]
    image_condition: ImageCondition | None = None
    condition_images: Tensor | None = None  # (N, R, R) uint8, see toygan.conditions.image
    text: Tensor | None = None  # (N, text_size) float32, once `with_text` has been asked for it

    def __len__(self) -> int:
        return len(self.images)

    @property
    def text_size(self) -> int:
        """Numbers of a text's embedding, 0 where texts play no part."""
        return 0 if self.text is None else self.text.shape[1]

    def of_category(self, category: int) -> list[int]:
        """Row numbers of the photos of one category."""
        rows: list[int] = torch.nonzero(self.category == category).flatten().tolist()
        return rows

    def with_text(self, encoder: "TextEncoder | None") -> Self:
        """The same photos with their texts embedded, where there is an encoder."""
        return self if encoder is None else replace(self, text=encoder.encode(self.texts))

    def conditions(self, rows: Tensor) -> dict[str, Tensor]:
        """What a network is told of the photos `rows` (B,) int64; see `toygan.models.layers.Conditions`."""
        conditions = {"category": self.category[rows], "colour": self.colour[rows]}
        if self.text is not None:
            conditions["text"] = self.text[rows]
        if self.image_condition is not None and self.condition_images is not None:
            conditions[self.image_condition] = encode_images(
                self.image_condition, self.condition_images[rows]
            )
        return conditions

    def product(self, row: int) -> ProductConditions:
        """The conditions of one photo, as those of a product of a catalog."""
        image = None if self.condition_images is None else self.condition_images[row].numpy()
        return ProductConditions(
            category=self.categories[self.category[row]],
            colour_hex=self.colour_hexes[row],
            text=self.texts[row],
            image=image,
        )

    @cached_property
    def sha256(self) -> str:
        """Of everything that a training sees: pixels and conditions, in their order."""
        digest = sha256("\x1f".join(self.categories).encode())
        for tensor in (self.images, self.category, self.colour, self.condition_images, self.text):
            if tensor is not None:
                digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()


def load_photos(
    folder: Path,
    *,
    resolution: int,
    split: str,
    keep_sku: Callable[[str], bool] = lambda sku: True,
    categories: tuple[str, ...] | None = None,
    image_condition: ImageCondition | None = None,
) -> PhotoSet:
    """Reads the photos of `split` whose sku passes `keep_sku`; see `toygan.data.sources.read_photos`.

    Photos are laid on a white square and resized to `resolution` x `resolution` pixels (torchvision, bilinear
    with antialiasing), one at a time, so that only the small ones are held; so are the condition images,
    where a family needs them. Without `categories` those of the photos are taken, sorted. A malformed row, a
    photo or condition image that is missing or cannot be decoded: the photo is skipped, counted and named in
    the log. Raises BadInput when nothing usable is there, or a category that is not among `categories`.
    """
    resize = v2.Resize((resolution, resolution), antialias=True)
    images: list[Tensor] = []
    condition_images: list[NDArray[np.uint8]] = []
    rows: list[Photo] = []
    broken = 0
    for photo in read_photos(folder, split=split, image_condition=image_condition):
        if not keep_sku(photo.sku):
            continue
        try:
            pixels = torch.from_numpy(decode(photo.photo)).permute(2, 0, 1)
            if image_condition is not None:
                condition_images.append(_read_condition(photo, image_condition, resolution))
        except BadInput as error:
            broken += 1
            log.warning(
                "skipped the photo %s of %s in %s: %s", photo.photo_id, photo.sku, photo.source, error
            )
            continue
        images.append(resize(square(pixels, WHITE)))
        rows.append(photo._replace(photo=b"", condition=None))
    if broken:
        log.warning("skipped %d broken photos; %d are left", broken, len(images))
    if not images:
        raise BadInput(f"no usable photo of split {split!r} in {folder}")
    names = [row.category for row in rows]
    colour_hexes = tuple(row.colour_hex for row in rows)
    categories = categories or tuple(sorted(set(names)))
    return PhotoSet(
        images=torch.stack(images),
        category=encode_categories(names, categories),
        colour=encode_colours(colour_hexes),
        colour_hexes=colour_hexes,
        texts=tuple(row.text for row in rows),
        skus=tuple(row.sku for row in rows),
        categories=categories,
        image_condition=image_condition,
        condition_images=torch.from_numpy(np.stack(condition_images)) if condition_images else None,
    )


def _read_condition(photo: Photo, kind: ImageCondition, resolution: int) -> NDArray[np.uint8]:
    if not photo.condition:
        raise BadInput(f"it has no {kind}")
    return READERS[kind](photo.condition, resolution)
