"""Catalogs in files, for tests."""

from pathlib import Path
from typing import Any

import pandas as pd

from toygan.planning.catalog import open_catalog


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def read(path: Path, **columns: str) -> tuple[dict[int, dict[str, Any]], list[tuple[Any, ...]]]:
    """Good products by row without what is null, and what was set aside."""
    with open_catalog(str(path), columns) as catalog:
        batches = list(catalog.stream())
    good = pd.concat([batch.good for batch in batches])
    rejected = pd.concat([batch.rejected for batch in batches])
    rows = {
        int(row): {name: value for name, value in cells.items() if isinstance(value, dict) or pd.notna(value)}
        for row, cells in good.to_dict("index").items()
    }
    return rows, list(rejected.itertuples(index=False, name=None))
