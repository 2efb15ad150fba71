"""Product photos in memory, ready to train on."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

from catalog_schemas.photos import check_photo_rows, check_photo_shard
from catalog_schemas.validation import TableError, open_parquet, parquet_errors
from toygan.conditions.category import encode_categories
from toygan.conditions.colour import encode_colours
from toygan.errors import BadInput
from toygan.images import decode

log = logging.getLogger(__name__)

PHOTO_COLUMNS = ["photo_id", "sku", "category", "colour_hex", "split", "photo"]
WHITE = 255


@dataclass(frozen=True, kw_only=True)
class PhotoSet:
    """N photos of one size with what is known of them."""

    images: Tensor  # (N, 3, R, R) uint8
    category: Tensor  # (N,) int64, index into `categories`
    colour: Tensor  # (N, 4) float32, see toygan.conditions.colour
    colour_hexes: tuple[str | None, ...]
    skus: tuple[str, ...]
    categories: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def of_category(self, category: int) -> list[int]:
        """Row numbers of the photos of one category."""
        rows: list[int] = torch.nonzero(self.category == category).flatten().tolist()
        return rows

    @cached_property
    def sha256(self) -> str:
        """Of everything that a training sees: pixels and conditions, in their order."""
        digest = sha256("\x1f".join(self.categories).encode())
        for tensor in (self.images, self.category, self.colour):
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()


class _Row(NamedTuple):
    photo_id: str
    sku: str
    category: str
    colour_hex: str | None
    photo: bytes


def load_photos(
    folder: Path,
    *,
    resolution: int,
    split: str,
    keep_sku: Callable[[str], bool] = lambda sku: True,
    categories: tuple[str, ...] | None = None,
) -> PhotoSet:
    """Reads the rows of `split` whose sku passes `keep_sku` from photo shards (a folder of Parquet files).

    Photos are laid on a white square and resized to `resolution` x `resolution` pixels (torchvision, bilinear
    with antialiasing), one at a time, so that only the small ones are held. Without `categories` those of the
    photos are taken, sorted. A malformed row and a photo that cannot be decoded are skipped, counted and
    named in the log. Raises BadInput when nothing usable is there, or a category that is not among
    `categories`.
    """
    shards = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
    if not shards:
        raise BadInput(f"no photo shards (*.parquet) in {folder}; give the folder that holds them")
    resize = v2.Resize((resolution, resolution), antialias=True)
    images: list[Tensor] = []
    rows: list[_Row] = []
    broken = 0
    for shard in shards:
        for row in _rows(shard, split):
            if not keep_sku(row.sku):
                continue
            try:
                pixels = torch.from_numpy(decode(row.photo)).permute(2, 0, 1)
            except BadInput as error:
                broken += 1
                log.warning("skipped the photo %s of %s in %s: %s", row.photo_id, row.sku, shard.name, error)
                continue
            images.append(resize(_square(pixels)))
            rows.append(row)
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
        skus=tuple(row.sku for row in rows),
        categories=categories,
    )


def _rows(shard: Path, split: str) -> Iterator[_Row]:
    """The well-formed rows of one split; malformed ones are named in the log. Raises BadInput as above."""
    first_row = 0
    try:
        check_photo_shard(shard)
        with open_parquet(shard) as file, parquet_errors(shard):
            for batch in file.iter_batches(batch_size=256, columns=PHOTO_COLUMNS):
                checked = check_photo_rows(batch, first_row)
                first_row += batch.num_rows
                for row, sku, column, reason in checked.rejected.itertuples(index=False):
                    log.warning("skipped row %d (%s) of %s: %s is %s", row, sku, shard.name, column, reason)
                good = checked.good[checked.good["split"] == split]
                for photo_id, sku, category, colour_hex, _, photo in good[PHOTO_COLUMNS].itertuples(
                    index=False
                ):
                    known_hex = colour_hex if isinstance(colour_hex, str) else None
                    yield _Row(photo_id, sku, category, known_hex, photo)
    except TableError as error:
        raise BadInput(str(error)) from error


def _square(pixels: Tensor) -> Tensor:
    """(3, H, W) uint8 in the middle of a white square: a tall photo must not become a squat product."""
    height, width = pixels.shape[1:]
    if height == width:
        return pixels
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    return F.pad(pixels, (left, side - width - left, top, side - height - top), value=WHITE)
