"""Small catalogs for the tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from catalog_schemas.products import PRODUCTS

BRICK: dict[str, Any] = {
    "sku": "brick-3001-4",
    "category": "brick",
    "title": "Brick 2 x 4, Red",
    "description": "The brick.",
    "language": "en",
    "colour": "Red",
    "colour_hex": "#B40000",
    "finish": "solid",
    "attributes": {"material": "ABS", "part": "3001"},
}


def product(**changes: Any) -> dict[str, Any]:
    """A good row of the catalog with `changes`."""
    return {**BRICK, **changes}


def catalog_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Makes a table of rows, with every column that a row has. Attributes are given as dictionaries."""
    names = [name for name in PRODUCTS.names if any(name in row for row in rows)]
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if name == "attributes":
            values = [None if value is None else list(value.items()) for value in values]
        columns[name] = pa.array(values, PRODUCTS.field(name).type)
    return pa.table(columns)


def write_catalog(path: Path, rows: Sequence[Mapping[str, Any]], **options: Any) -> Path:
    """Write rows as a catalog and return its path."""
    pq.write_table(catalog_table(rows), path, **options)
    return path
