"""Where photos come from, one after the other: so far from photo shards, a folder of Parquet files."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from catalog_schemas.photos import check_photo_rows, check_photo_shard
from catalog_schemas.validation import TableError, open_parquet, parquet_errors
from toygan.conditions.text import product_text
from toygan.errors import BadInput
from toygan.models.layers import ImageCondition

log = logging.getLogger(__name__)

_COLUMNS = ["photo_id", "sku", "category", "title", "colour_hex", "split", "photo"]


class Photo(NamedTuple):
    """One photo as it was found, undecoded."""

    photo_id: str
    sku: str
    category: str
    text: str | None
    colour_hex: str | None
    photo: bytes
    condition: bytes | None  # the sketch or the layout that belongs to it
    source: str  # where it was found, for messages


def read_photos(
    folder: Path, *, split: str, image_condition: ImageCondition | None = None
) -> Iterator[Photo]:
    """The well-formed rows of `split`, with the column `image_condition`; the log names malformed ones.

    Raises BadInput when there are no photos, a file is no photo shard, or it has no such column.
    """
    shards = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
    if not shards:
        raise BadInput(f"no photo shards (*.parquet) in {folder}; give the folder that holds them")
    for shard in shards:
        yield from _read_shard(shard, split, image_condition)


def _read_shard(shard: Path, split: str, image_condition: ImageCondition | None) -> Iterator[Photo]:
    first_row = 0
    try:
        check_photo_shard(shard)
        with open_parquet(shard) as file, parquet_errors(shard):
            present = file.schema_arrow.names
            if image_condition is not None and image_condition not in present:
                raise BadInput(
                    f"{shard} has no column {image_condition!r}, which this family draws from; add it, or "
                    "train a family that needs none"
                )
            columns = [name for name in (*_COLUMNS, image_condition) if name in present]
            for batch in file.iter_batches(batch_size=256, columns=columns):
                checked = check_photo_rows(batch, first_row)
                first_row += batch.num_rows
                for row, sku, column, reason in checked.rejected.itertuples(index=False):
                    log.warning("skipped row %d (%s) of %s: %s is %s", row, sku, shard.name, column, reason)
                good = checked.good[checked.good["split"] == split]
                for row in good.to_dict("records"):
                    yield Photo(
                        photo_id=row["photo_id"],
                        sku=row["sku"],
                        category=row["category"],
                        text=product_text(_known(row.get("title")), None),
                        colour_hex=_known(row["colour_hex"]),
                        photo=row["photo"],
                        condition=row[image_condition] if image_condition else None,
                        source=shard.name,
                    )
    except TableError as error:
        raise BadInput(str(error)) from error


def _known(value: Any) -> str | None:
    """pandas has more than one way to say that there is nothing."""
    return value if isinstance(value, str) else None
