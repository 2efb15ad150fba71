"""Photo shards: Parquet files with one row per photo, see `catalog_schemas.photos`."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog_schemas.photos import check_photo_rows, check_photo_shard
from catalog_schemas.validation import TableError, open_parquet, parquet_errors
from toygan.data.photo import Photo, WantedConditions
from toygan.errors import BadInput
from toygan.storage.store import ObjectStore

log = logging.getLogger(__name__)

SUFFIX = ".parquet"

_COLUMNS = [
    *("photo_id", "sku", "category", "title", "description", "colour", "colour_hex", "finish", "split"),
    "photo",
]


def read_stored_shard(
    store: ObjectStore, key: str, split: str, drawings: WantedConditions
) -> Iterator[Photo]:
    """Reads an object as `read_shard` does.

    The shard is copied to a temporary file, so that it does not stay in memory while its rows are used.
    """
    with tempfile.TemporaryDirectory(prefix="toygan-") as folder:
        copy = Path(folder) / "shard.parquet"
        copy.write_bytes(store.get(key))
        yield from read_shard(copy, split, drawings, name=f"{store.uri}/{key}")


def read_shard(
    shard: Path, split: str, drawings: WantedConditions, *, name: str | None = None
) -> Iterator[Photo]:
    """Yields the well-formed rows of `split` in a file. The log names malformed rows.

    Messages call the file `name`, by default its own name.

    Raises BadInput if the file is not a photo shard, or if a needed column of drawings is missing.
    """
    name = str(shard) if name is None else name
    source = name.rpartition("/")[2]
    first_row = 0
    try:
        check_photo_shard(shard)
        with open_parquet(shard) as file, parquet_errors(shard):
            present = file.schema_arrow.names
            drawings.check(name, present)
            wanted = {*_COLUMNS, drawings.column, *(["sketch"] if drawings.lines else [])}
            of_snapshots = {"mask", "layout", "free_snapshot", "free_mask"}
            wanted |= of_snapshots if drawings.kind == "photo" else set()
            columns = [column for column in present if column in wanted]
            for batch in file.iter_batches(batch_size=256, columns=columns):
                checked = check_photo_rows(batch, first_row)
                first_row += batch.num_rows
                for row, sku, column, reason in checked.rejected.itertuples(index=False):
                    at = (row, sku, source)
                    log.warning("skipped row %d (sku %s) of %s: its %s is %s", *at, column, reason)
                good = checked.good[checked.good["split"] == split]
                for row in good.to_dict("records"):
                    yield Photo(
                        photo_id=row["photo_id"],
                        sku=row["sku"],
                        category=row["category"],
                        title=_known(row.get("title")),
                        colour_hex=_known(row["colour_hex"]),
                        photo=row["photo"],
                        condition=(row.get(drawings.column) or None) if drawings.column else None,
                        source=source,
                        description=_known(row.get("description")),
                        colour=_known(row.get("colour")),
                        finish=_known(row.get("finish")),
                        lines=(row.get("sketch") or None) if drawings.lines else None,
                        mask=row.get("mask") or None,
                        layout=(row.get("layout") or None) if drawings.kind == "photo" else None,
                        free_snapshot=row.get("free_snapshot") or None,
                        free_mask=row.get("free_mask") or None,
                    )
    except TableError as error:
        raise BadInput(str(error).replace(str(shard), name)) from error


def _known(value: Any) -> str | None:
    """Returns a text, or None if the value is one of pandas' missing values."""
    return value if isinstance(value, str) else None
