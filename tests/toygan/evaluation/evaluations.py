"""Evaluations of small models, for tests."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import tiny_model
from tests.shards import COLOURS, photo, photo_row, write_shard
from toygan.artifact.model import GeneratedBatch, Model
from toygan.conditions.product import ProductConditions
from toygan.data.photos import PhotoSet, load_photos
from toygan.evaluation.evaluate import evaluate
from toygan.evaluation.result import Evaluation

CATEGORIES = ("brick", "plant")


VAL_COLOURS = ("#A00010", "#204090", "#E0B010", "#107030", "#802080", "#F08020")


def rows(split: str, colours: Sequence[str], sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Squares and discs in every colour; JPEG sees every size differently."""
    for category in CATEGORIES:
        for colour_hex in colours:
            for size in sizes:
                sku = f"{split}-{category}-{colour_hex[1:]}-{size}"
                picture = photo(colour_hex, round_=category == "plant", size=(size, size))
                yield photo_row(sku, category, colour_hex, split=split, photo=picture)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shards = [*rows("train", COLOURS, (36, 44, 64)), *rows("val", VAL_COLOURS, (40,))]
    return write_shard(tmp_path_factory.mktemp("photos"), shards)


@pytest.fixture(scope="module")
def val(photos: Path) -> PhotoSet:
    return load_photos(photos, resolution=32, split="val", categories=CATEGORIES)


@pytest.fixture(scope="module")
def train(photos: Path) -> PhotoSet:
    return load_photos(photos, resolution=32, split="train", categories=CATEGORIES)


class Copier(Model):
    """Draws the photos of a set as they are: of the wanted category, the colours in turn."""

    memory: PhotoSet

    def generate(
        self, seeds: Sequence[int], products: Sequence[ProductConditions], batch_size: int
    ) -> GeneratedBatch:
        known = {name: self.memory.of_category(index) for index, name in enumerate(CATEGORIES)}
        of_category = [known[product.category] for product in products]
        chosen = [rows[seed % len(rows)] for seed, rows in zip(seeds, of_category, strict=True)]
        return GeneratedBatch(
            pixels=self.memory.images[chosen].permute(0, 2, 3, 1).numpy(),
            logits=np.zeros(len(chosen), dtype=np.float32),
            finite=np.ones(len(chosen), dtype=bool),
            snapshots=[None] * len(chosen),
            layout_similarities=[None] * len(chosen),
            shapes=[None] * len(chosen),
        )


def copier(model: Model, memory: PhotoSet, kind: type[Copier] = Copier) -> Copier:
    made = kind(**{field.name: getattr(model, field.name) for field in fields(model)})
    object.__setattr__(made, "memory", memory)
    return made


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model(categories=CATEGORIES).load()


@pytest.fixture(scope="module")
def random_weights(model: Model, val: PhotoSet, train: PhotoSet) -> Evaluation:
    return evaluate(model, val, train, pictures=24)
