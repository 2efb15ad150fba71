"""Product photos in memory, ready to train on."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torchvision.transforms import v2

from catalog_schemas.photos import check_photo_shard
from catalog_schemas.validation import TableError
from toygan.conditions.category import encode_categories
from toygan.conditions.colour import encode_colours
from toygan.errors import BadInput
from toygan.images import decode

log = logging.getLogger(__name__)

PHOTO_COLUMNS = ["sku", "category", "colour_hex", "split", "photo"]


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
        return torch.nonzero(self.category == category).flatten().tolist()


def load_photos(
    folder: Path,
    *,
    resolution: int,
    split: str,
    keep_sku: Callable[[str], bool] = lambda sku: True,
    categories: tuple[str, ...] | None = None,
) -> PhotoSet:
    """Reads the rows of `split` whose sku passes `keep_sku` from photo shards (a folder of Parquet files).

    Photos are resized to `resolution` x `resolution` pixels (torchvision, bilinear with antialiasing), one at a time,
    so that only the small ones are held. Without `categories` those of the photos are taken, sorted. A photo that
    cannot be decoded is skipped, counted and named in the log. Raises BadInput when nothing usable is there.
    """
    shards = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
    if not shards:
        raise BadInput(f"no photo shards (*.parquet) in {folder}; give the folder that holds them")
    resize = v2.Resize((resolution, resolution), antialias=True)
    images: list[Tensor] = []
    rows: list[tuple[str, str, str | None]] = []
    broken = 0
    for shard in shards:
        try:
            check_photo_shard(shard)
        except TableError as error:
            raise BadInput(str(error)) from error
        for batch in pq.ParquetFile(shard).iter_batches(batch_size=256, columns=PHOTO_COLUMNS):
            for row in _rows(batch):
                if row["split"] != split or not keep_sku(row["sku"]):
                    continue
                try:
                    pixels = decode(row["photo"])
                except BadInput as error:
                    broken += 1
                    log.warning("skipped a photo of %s in %s: %s", row["sku"], shard.name, error)
                    continue
                images.append(resize(torch.from_numpy(pixels).permute(2, 0, 1)))
                rows.append((row["sku"], row["category"], row["colour_hex"]))
    if broken:
        log.warning("skipped %d broken photos; %d are left", broken, len(images))
    if not images:
        raise BadInput(f"no usable photo of split {split!r} in {folder}")
    skus, names, colour_hexes = zip(*rows, strict=True)
    categories = categories or tuple(sorted(set(names)))
    return PhotoSet(
        images=torch.stack(images),
        category=encode_categories(names, categories),
        colour=encode_colours(colour_hexes),
        colour_hexes=colour_hexes,
        skus=skus,
        categories=categories,
    )


def _rows(batch: pa.RecordBatch) -> list[dict[str, object]]:
    return batch.to_pylist()  # type: ignore[no-any-return]
