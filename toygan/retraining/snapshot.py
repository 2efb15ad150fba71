"""The snapshot of a retraining: the photos as they were at its beginning.

They are stored as photo shards at the resolution of the model's final pictures. Calibration and evaluation
compare the photos with these pictures, and would take smaller photos for blurred ones. The training shrinks
them to the generator's resolution. All three use the same photos, even if photos are uploaded, changed or
deleted during the retraining or while it is interrupted.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from catalog_schemas.photos import PHOTO_SHARD, SPLITS
from toygan.data.photo import NO_CONDITIONS, Photo, WantedConditions
from toygan.data.photo_index import indexed_photos
from toygan.data.photos import shrink
from toygan.data.sources import read_photos
from toygan.data.split import is_calibration_sku
from toygan.data.upload_products import UploadedProduct, uploaded_photo
from toygan.errors import BadInput
from toygan.images import encode_photo
from toygan.parallel import in_order
from toygan.storage.store import ObjectStore

log = logging.getLogger(__name__)

SHARD = "photos.parquet"
_COLUMNS = (
    *("photo_id", "sku", "category", "title", "description", "colour", "colour_hex", "finish"),
    *("split", "photo", "layout", "sketch"),
)
_SCHEMA = pa.schema([PHOTO_SHARD.field(name) for name in _COLUMNS])
_ROWS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Counts of the photos in a snapshot."""

    uploads: int
    others: int  # the number of further training photos besides the uploads
    # by category, the numbers of photos that are left out because the challenger does not learn the category
    left_out: Mapping[str, int]
    titled: int  # the number of uploads with a title
    # the number of photos that cannot be decoded, are missing, or have changed since they were indexed
    broken: int
    # the numbers of photos by category and role: train, calibration or val
    by_category: Mapping[str, Mapping[str, int]]

    def of_role(self, role: str) -> int:
        """Returns the number of photos of all categories with this role, one of `ROLES`."""
        return sum(roles[role] for roles in self.by_category.values())

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


ROLES = ("train", "calibration", "val")


def take_snapshot(
    folder: Path,
    *,
    store: ObjectStore,
    index: pa.Table,
    photos: str | None,
    categories: tuple[str, ...],
    resolution: int,
    with_layouts: bool = False,
    products: Mapping[str, UploadedProduct] = MappingProxyType({}),
) -> Contents:
    """Writes the photos of `index` and those at `photos` into `folder` as one shard; returns their counts.

    `products` has the titles and colours of uploaded products, by sku. With `with_layouts`, layouts and
    sketches of photos are kept. A product in both sources takes the split that it has in `photos`, so that
    no training uses a product that is held out there. Raises BadInput for `photos` that cannot be used, and
    StoreUnavailable as a store does.
    """
    folder.mkdir(parents=True)
    counts: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    by_category = {name: Counter(dict.fromkeys(ROLES, 0)) for name in categories}
    splits: dict[str, str] = {}
    others = _others(photos, splits, with_layouts)
    uploads = _uploads(store, index, products, splits, counts)
    found = _known(chain(others, uploads), categories, left_out)
    threads = torch.get_num_threads()
    with (
        ThreadPoolExecutor(threads) as pool,
        pq.ParquetWriter(folder / SHARD, _SCHEMA, compression="none") as shard,
    ):
        shrunk = in_order(pool, partial(_shrink, resolution=resolution), found, ahead=4 * threads)
        rows = _rows(shrunk, by_category, counts)
        while chunk := list(islice(rows, _ROWS_AT_ONCE)):
            shard.write_table(pa.Table.from_pylist(chunk, schema=_SCHEMA))
    return Contents(
        uploads=counts["uploads"],
        others=counts["others"],
        left_out=dict(left_out),
        titled=counts["titled"],
        broken=counts["broken"],
        by_category={name: dict(roles) for name, roles in by_category.items()},
    )


_Found = tuple[str, Photo, str]  # the source ("uploads" or "others"), the photo and its split


def _others(photos: str | None, splits: dict[str, str], with_layouts: bool) -> Iterator[_Found]:
    drawings = WantedConditions(kind="layout", lines=True, may_lack=True) if with_layouts else NO_CONDITIONS
    for split in SPLITS if photos is not None else ():
        for photo in read_photos(photos or "", split=split, drawings=drawings):
            splits.setdefault(photo.sku, split)
            yield "others", photo, splits[photo.sku]


def _uploads(
    store: ObjectStore,
    index: pa.Table,
    products: Mapping[str, UploadedProduct],
    splits: Mapping[str, str],
    counts: Counter[str],
) -> Iterator[_Found]:
    if not index.num_rows:
        return
    read = 0
    for row, data in indexed_photos(store, index):
        read += 1
        photo = uploaded_photo(row, data, products, store.uri)
        counts["titled"] += photo.title is not None
        yield "uploads", photo, splits.get(row["sku"], row["split"])
    counts["broken"] += index.num_rows - read


def known_products(folder: Path, categories: Collection[str]) -> Callable[[str], bool]:
    """Returns a function that says whether all photos of a sku in the snapshot are of `categories`."""
    table = pq.read_table(folder / SHARD, columns=["sku", "category"])
    others = {row["sku"] for row in table.to_pylist() if row["category"] not in categories}
    return lambda sku: sku not in others


def count_compared(folder: Path, categories: Collection[str]) -> Counter[str]:
    """Counts by role the photos in the snapshot on which a model with `categories` can be compared.

    These are the photos of the products for which `known_products` returns True.
    """
    return Counter(_role(row["sku"], row["split"]) for row in _compared(folder, categories))


def count_measured(folder: Path, categories: Collection[str]) -> Counter[str]:
    """Counts by category the photos of val in the snapshot on which a model with `categories` is measured."""
    return Counter(row["category"] for row in _compared(folder, categories) if row["split"] == "val")


def _compared(folder: Path, categories: Collection[str]) -> list[dict[str, Any]]:
    is_known = known_products(folder, categories)
    rows = pq.read_table(folder / SHARD, columns=["sku", "category", "split"]).to_pylist()
    return [row for row in rows if is_known(row["sku"])]


def titled_uploads(folder: Path, uploads: Collection[str], categories: Collection[str]) -> frozenset[str]:
    """Returns those skus of `uploads` that have a title and one of the categories in the snapshot."""
    table = pq.read_table(folder / SHARD, columns=["sku", "category", "title"])
    return frozenset(
        row["sku"]
        for row in table.to_pylist()
        if row["title"] is not None and row["sku"] in uploads and row["category"] in categories
    )


def _known(found: Iterator[_Found], categories: tuple[str, ...], left_out: Counter[str]) -> Iterator[_Found]:
    for kind, photo, split in found:
        if photo.category in categories:
            yield kind, photo, split
        else:
            left_out[photo.category] += 1


def _shrink(found: _Found, *, resolution: int) -> bytes | None:
    try:
        pixels = shrink(found[1].photo, resolution)
    except BadInput as error:
        log.warning("left out the photo %s from %s: %s", found[1].photo_id, found[1].source, error)
        return None
    return encode_photo(pixels.permute(1, 2, 0).numpy())


def _rows(
    shrunk: Iterator[tuple[_Found, bytes | None]],
    by_category: Mapping[str, Counter[str]],
    counts: Counter[str],
) -> Iterator[dict[str, Any]]:
    for (kind, photo, split), data in shrunk:
        if data is None:
            counts["broken"] += 1
            continue
        counts[kind] += 1
        by_category[photo.category][_role(photo.sku, split)] += 1
        yield {
            "photo_id": photo.photo_id,
            "sku": photo.sku,
            "category": photo.category,
            "title": photo.title,
            "description": photo.description,
            "colour": photo.colour,
            "colour_hex": photo.colour_hex,
            "finish": photo.finish,
            "split": split,
            "photo": data,
            "layout": photo.condition,
            "sketch": photo.lines,
        }


def _role(sku: str, split: str) -> str:
    return "calibration" if split == "train" and is_calibration_sku(sku) else split
