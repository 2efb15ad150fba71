"""Catalogs for the tests of the flows."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from catalog_schemas.products import PRODUCTS
from tests.models import CATEGORIES, COLOURS


def product(number: int, **changes: Any) -> dict[str, Any]:
    """A good row: the categories of the tiny model in turn."""
    return {
        "sku": f"sku-{number:05d}",
        "category": CATEGORIES[number % len(CATEGORIES)],
        "title": f"Product {number}",
        "colour_hex": COLOURS[number % len(COLOURS)],
        **changes,
    }


def write_catalog(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows, schema=PRODUCTS), path)
    return path


def products(path: Path, count: int) -> Path:
    """A catalog of `rows` good rows."""
    return write_catalog(path, [product(number) for number in range(count)])
