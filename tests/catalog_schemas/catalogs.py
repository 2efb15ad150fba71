"""Catalogs for tests of the contract."""

from pathlib import Path

import pandas as pd

from catalog_schemas.products import (
    BATCH_ROWS,
    stream_products,
)
from catalog_schemas.validation import CheckedTable


def check(path: Path, batch_rows: int = BATCH_ROWS) -> CheckedTable:
    """Reads a catalog and joins its batches."""
    parts = list(stream_products(path, batch_rows=batch_rows))
    return CheckedTable(
        good=pd.concat([part.good for part in parts]), rejected=pd.concat([part.rejected for part in parts])
    )
