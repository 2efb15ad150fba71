"""Reads the photos of every kind of source that `--photos` may name, one after the other.

a folder or s3:// prefix of *.parquet              photo shards, see `toygan.data.shards`
a store, in a folder or at s3://                   its uploads, in the photo index
a folder of CATEGORY/*.jpg, CATEGORY/SKU/*.jpg or CATEGORY.tar    pictures, see `toygan.data.by_category`
"""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc

from catalog_schemas.validation import TableError
from toygan.conditions.colour_names import NO_COLOUR_NAMES
from toygan.data import by_category, shards
from toygan.data.photo import NO_CONDITIONS, Photo, WantedConditions
from toygan.data.photo_index import indexed_photos, read_index
from toygan.data.split import nothing_to_train_on
from toygan.data.upload_products import (
    products_beside_photos,
    skus_by_category,
    uploaded_photo,
    with_main_colours,
)
from toygan.errors import BadInput
from toygan.storage.keys import (
    CURRENT_KEY,
    METADATA_PREFIX,
    PHOTO_INDEX_KEY,
    PHOTOS_PREFIX,
    RUNS_PREFIX,
)
from toygan.storage.local import LocalStore
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectStore

log = logging.getLogger(__name__)

_REMEDY = (
    "give photo shards (*.parquet), a store with indexed uploads, or a folder with a subfolder or a .tar of "
    "pictures for each category"
)


def read_photos(
    uri: str | Path, *, split: str, drawings: WantedConditions = NO_CONDITIONS
) -> Iterator[Photo]:
    """Yields the photos of `split` at `uri` with their `drawings`; the log names malformed photos.

    Raises BadInput if there are no photos at `uri`, if a whole file is damaged, or if needed drawings are
    missing.
    """
    store = open_store(uri)
    if store.exists(PHOTO_INDEX_KEY):
        drawings.check(f"{store.uri} is the photo index of a store and")
        return _read_index(store, split)
    if isinstance(store, LocalStore):
        return _read_folder(Path(store.uri), split, drawings)
    keys = [found.key for found in store.list() if _is_shard(found.key)]
    if not keys:
        raise BadInput(f"no photo shards (*.parquet) and no photo index at {store.uri}; {_REMEDY}")
    return (photo for key in keys for photo in shards.read_stored_shard(store, key, split, drawings))


def _read_folder(folder: Path, split: str, drawings: WantedConditions) -> Iterator[Photo]:
    files = sorted(file for file in folder.glob(f"*{shards.SUFFIX}") if _is_shard(file.name))
    if files:
        return (photo for file in files for photo in shards.read_shard(file, split, drawings))
    if (folder / METADATA_PREFIX).is_dir() and (folder / RUNS_PREFIX).is_dir():
        raise BadInput(
            f"{folder} is a store without a photo index, and its pictures are generated, not photos; upload "
            f"photos below {PHOTOS_PREFIX} and run the flow watch-photos, or give another folder"
        )
    if not by_category.holds_categories(folder):
        loose = by_category.said(by_category.loose_files(folder))
        found = f"; it contains {loose}, but not in a category's folder" if loose else ""
        raise BadInput(f"no photos in {folder}{found}; {_REMEDY}")
    drawings.check(f"{folder} is a folder of pictures and")
    return by_category.read_categories(folder, split)


def _read_index(store: ObjectStore, split: str) -> Iterator[Photo]:
    try:
        index = read_index(store)
    except TableError as error:
        raise BadInput(f"{store.uri}: {error}") from error
    # An empty index is passed on to `indexed_photos`, which raises the error.
    of_split = index.filter(pc.equal(index["split"], split)) if index.num_rows else index
    if split == "train":
        left = set(of_split["category"].to_pylist())
        for category, photos in Counter(index["category"].to_pylist()).items():
            if category not in left:
                log.warning("%s", nothing_to_train_on(category, photos))
    if index.num_rows and not of_split.num_rows:
        return
    described = products_beside_photos(store, skus_by_category(of_split))
    products = with_main_colours(described, NO_COLOUR_NAMES)
    for row, data in indexed_photos(store, of_split):
        yield uploaded_photo(row, data, products, store.uri)


def _is_shard(key: str) -> bool:
    """Returns whether a key is that of a photo shard. The table of a store's live pictures is not a shard."""
    return "/" not in key and key.endswith(shards.SUFFIX) and key != CURRENT_KEY
