"""Catalogs in files, for tests."""

from pathlib import Path
from typing import Any

import pandas as pd

from toygan.planning.catalog import open_catalog

FEED = """\
<?xml version="1.0"?>
<rss version="2.0" xmlns:g="http://base.google.com/ns/1.0"><channel><title>Shop</title>
<item><g:id>A1</g:id><g:title>Toy Car</g:title><g:description>A small &lt;i&gt;car&lt;/i&gt;</g:description>
<g:product_type>Toys &gt; Cars</g:product_type><g:color>Red</g:color><g:price>9.99 EUR</g:price></item>
<item><title>小熊</title><g:id>货号2</g:id><g:google_product_category>1253</g:google_product_category></item>
</channel></rss>
"""


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
