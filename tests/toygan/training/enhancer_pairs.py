"""Training pairs of an enhancer for tests."""

from pathlib import Path
from typing import Final

import torch

from catalog_schemas.photos import PHOTO_SHARD
from tests.models import condition_file
from tests.shards import SHARD_SCHEMA, photo_row, training_skus, write_shard
from toygan.conditions.condition_types import ImageCondition
from toygan.training.pairs import PhotoPairs, Source

CONDITION_TYPES: Final[tuple[ImageCondition, ...]] = ("layout", "sketch")
NETWORK = {
    "small_resolution": 32,
    "generator_channels": 4,
    "generator_blocks": 1,
    "discriminator_channels": 4,
}


def synthetic(sources: tuple[Source, ...], *, side: int = 64, small_side: int = 32) -> PhotoPairs:
    """Two photos, whose small pictures are grey by their number; product, ink in the right lower quarter."""
    layout = torch.zeros(2, side, side, dtype=torch.uint8)
    layout[:, side // 2 :, side // 2 :] = 1
    small = torch.arange(len(sources), dtype=torch.uint8)[None, :, None, None, None] * 50
    rng = torch.Generator().manual_seed(0)
    return PhotoPairs(
        images=torch.randint(256, (2, 3, side, side), dtype=torch.uint8, generator=rng),
        category=torch.zeros(2, dtype=torch.int64),
        colour=torch.zeros(2, 4),
        colour_hexes=(None, None),
        finishes=(None, None),
        words=(),
        skus=("a", "b"),
        categories=("brick",),
        image_condition="layout",
        condition_images=layout,
        lines=255 - 255 * layout,
        small=small.expand(2, -1, 3, small_side, small_side),
        sources=sources,
    )


def write_drawn_bricks(folder: Path) -> Path:
    """Writes a shard of eight bricks with layouts and sketches."""
    rows = [
        photo_row(sku) | {kind: condition_file(kind, number) for kind in CONDITION_TYPES}
        for number, sku in enumerate(training_skus(8))
    ]
    schema = SHARD_SCHEMA.append(PHOTO_SHARD.field("layout")).append(PHOTO_SHARD.field("sketch"))
    return write_shard(folder, rows, schema=schema)
