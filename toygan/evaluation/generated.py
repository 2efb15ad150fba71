"""Generates the pictures of an evaluation with photos' conditions, and pairs pictures of equal conditions."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toygan.approval.fidelity import compare
from toygan.artifact.model import Model
from toygan.artifact.product_finder import FramedSnapshot
from toygan.conditions.condition_types import ImageCondition
from toygan.conditions.shape import Shape
from toygan.data.photos import PhotoSet
from toygan.errors import ModelError
from toygan.generation.engine import default_batch_size
from toygan.progress import Progress
from toygan.seeds import image_seed

PAIRS_OF_A_CATEGORY: Final = 24  # the largest number of pairs of a category

Pairs = NDArray[np.int64]  # (P, 2), the positions of two pictures each


@dataclass(frozen=True, kw_only=True)
class GeneratedPictures:
    """The N generated pictures of an evaluation."""

    images: Tensor  # (N, 3, R, R) uint8
    rows: NDArray[np.int64]  # (N,), the row of the photo from which each picture's conditions come
    seeds: tuple[int, ...]
    logits: NDArray[np.float32]  # (N,), see `toygan.artifact.model.Model.score`
    # N values each, see `toygan.artifact.model.GeneratedBatch`
    layout_similarities: tuple[float | None, ...]
    shapes: tuple[Shape | None, ...]
    # N values: whether a picture shows the product of the snapshot that it was made from; None without one
    agree: tuple[bool | None, ...]


def generate_pictures(
    model: Model, photos: PhotoSet, *, pictures: int, seed: int, progress: Progress
) -> GeneratedPictures:
    """Generates pictures with the conditions of `photos`.

    The numbers of pictures of any two photos differ by at most one. The latents depend only on `seed` and the
    model's name, so two versions of a model use the same latents. Raises ModelError if a picture is not
    finite.
    """
    random = np.random.default_rng(seed)
    rounds = -(-pictures // len(photos))
    rows = np.concatenate([random.permutation(len(photos)) for _ in range(rounds)])[:pictures]
    # A sku never contains a space, so these seeds differ from those of every product.
    seeds = [image_seed(f"evaluation {seed}", number, 0, model.name, "") for number in range(pictures)]
    batch_size = default_batch_size(model)
    pixels, logits, broken = [], [], 0
    similarities: list[float | None] = []
    agree: list[bool | None] = []
    shapes: list[Shape | None] = []
    for first in range(0, pictures, batch_size):
        chosen = rows[first : first + batch_size]
        generated = model.generate(
            seeds[first : first + batch_size], [photos.product(row) for row in chosen], batch_size
        )
        pixels.append(generated.pixels)
        logits.append(generated.logits)
        similarities += generated.layout_similarities
        agree += map(_agrees, generated.pixels, generated.snapshots)
        shapes += generated.shapes
        broken += int((~generated.finite).sum())
        progress.advance(len(chosen))
    if broken:
        raise ModelError(
            f"{broken} of {pictures} pictures of {model.name} are not finite; the model is broken"
        )
    images = torch.from_numpy(np.concatenate(pixels)).permute(0, 3, 1, 2)
    return GeneratedPictures(
        images=images,
        rows=rows,
        seeds=tuple(seeds),
        logits=np.concatenate(logits),
        layout_similarities=tuple(similarities),
        agree=tuple(agree),
        shapes=tuple(shapes),
    )


def _agrees(picture: NDArray[np.uint8], snapshot: FramedSnapshot | None) -> bool | None:
    if snapshot is None:
        return None
    return not snapshot.problems and compare(picture, snapshot.pixels).agrees


def generated_pairs(generated: GeneratedPictures, category: NDArray[np.int64]) -> Pairs:
    """Pairs pictures that have the conditions of the same photo. A picture is in at most one pair.

    `category` (N,) has the categories of the pictures.
    """
    return _pairs(generated.rows.tolist(), category)


def photo_pairs(photos: PhotoSet, image_condition: ImageCondition | None) -> Pairs:
    """Pairs photos of the same category and colour. A photo is in at most one pair.

    Returns no pairs for a model that requires an `image_condition`, because no two photos have the same
    image.
    """
    if image_condition is not None:
        return np.empty((0, 2), dtype=np.int64)
    category = photos.category.numpy()
    keys = [
        None if colour_hex is None else (number, colour_hex.upper())
        for number, colour_hex in zip(category.tolist(), photos.colour_hexes, strict=True)
    ]
    return _pairs(keys, category)


def _pairs(keys: Sequence[object], category: NDArray[np.int64]) -> Pairs:
    """Pairs consecutive items with the same key. Items without a key are left out."""
    waiting: dict[object, int] = {}
    pairs: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for number, key in enumerate(keys):
        if key is None:
            continue
        if key not in waiting:
            waiting[key] = number
            continue
        of_category = pairs[int(category[number])]
        if len(of_category) < PAIRS_OF_A_CATEGORY:
            of_category.append((waiting.pop(key), number))
    chosen = [pair for index in sorted(pairs) for pair in pairs[index]]
    return np.array(chosen, dtype=np.int64).reshape(-1, 2)
