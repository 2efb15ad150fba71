"""Small photo shards for tests."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from catalog_schemas.photos import PHOTO_SHARD, PHOTO_SHARD_REQUIRED
from toygan.data.split import is_calibration_sku

SHARD_SCHEMA = pa.schema([PHOTO_SHARD.field(name) for name in PHOTO_SHARD_REQUIRED])
COLOURS = ("#B40000", "#1E5AA8", "#FAC80A", "#00852B")


def photo(colour_hex: str, *, round_: bool = False, size: tuple[int, int] = (40, 40)) -> bytes:
    """A JPEG of `size` (width, height): a square or a disc of one colour on white ground."""
    image = Image.new("RGB", size, "white")
    box = (size[0] // 4, size[1] // 4, size[0] * 3 // 4, size[1] * 3 // 4)
    draw = ImageDraw.Draw(image)
    (draw.ellipse if round_ else draw.rectangle)(box, fill=colour_hex)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    return file.getvalue()


def photo_row(
    sku: str, category: str = "brick", colour_hex: str = COLOURS[0], **changes: Any
) -> dict[str, Any]:
    """One row of a shard; a plant is round, everything else square."""
    row = {
        "photo_id": f"{sku}-0",
        "sku": sku,
        "category": category,
        "colour_hex": colour_hex,
        "split": "train",
        "photo": photo(colour_hex, round_=category == "plant"),
    }
    return row | changes


def training_skus(count: int) -> list[str]:
    """Skus that training keeps: none of them calibrates."""
    return [
        sku for sku in (f"sku-{number}" for number in range(2 * count + 20)) if not is_calibration_sku(sku)
    ][:count]


def eight_rows() -> list[dict[str, Any]]:
    """Two categories in four colours: every condition has one photo."""
    conditions = [(category, colour_hex) for category in ("brick", "plant") for colour_hex in COLOURS]
    return [photo_row(sku, *condition) for sku, condition in zip(training_skus(8), conditions, strict=True)]


def write_shard(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    name: str = "photos-000",
    schema: pa.Schema = SHARD_SCHEMA,
) -> Path:
    """Writes the rows as one shard and returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), folder / f"{name}.parquet")
    return folder
