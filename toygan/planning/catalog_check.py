"""Summarises a catalog for a person before a run."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import pandas as pd

from catalog_schemas.products import PRODUCTS
from toygan.names import counted, printable
from toygan.parallel import reading_pool
from toygan.planning.catalog import Catalog, open_catalog
from toygan.planning.catalog_files.rows import QUOTE_NOT_CLOSED
from toygan.planning.condition_files import decode_conditions

MOST_EXAMPLES: Final = 3  # the largest number of rows that are named for a reason
MOST_SHOWN: Final = 20  # the largest number of categories, and of unread columns, that are named


@dataclass(kw_only=True)
class CatalogCheck:
    """The summary of a catalog: its format, columns, categories and rejected rows."""

    uri: str
    format: str
    columns: Mapping[str, str]  # maps columns of the contract to columns of the file
    others: tuple[str, ...]  # columns of the file that are not used
    good: int = 0
    set_aside: int = 0
    categories: Counter[str] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def text(self) -> str:
        """Returns lines for a terminal."""
        lines = [f"{self.uri}: {self.format}"]
        read = ", ".join(
            column if column == theirs else f"{column} from {printable(theirs)}"
            for column, theirs in self.columns.items()
        )
        lines.append(f"read: {read}")
        if self.others:
            lines.append(f"not read: {_some([printable(name) for name in self.others])}")
        lines.append(f"{counted(self.good, 'product')}, {counted(self.set_aside, 'row')} set aside")
        if self.categories:
            named = [f"{name} ({count:,})" for name, count in self.categories.most_common()]
            lines.append(f"{len(named)} categories: {_some(named)}")
        for (column, reason), count in self.reasons.most_common():
            rows = ", ".join(self.examples[column, reason])
            lines.append(f"set aside: {count:,} x {column}: {reason}, such as row {rows}")
        return "\n".join(lines)


def look_at_catalog(uri: str, columns: Mapping[str, str]) -> CatalogCheck:
    """Reads a whole catalog, and reads and decodes the files that its rows name. Row numbers start at 0.

    Raises the errors of `open_catalog` and `stream_products`.
    """
    with open_catalog(uri, columns) as catalog, reading_pool(uri) as pool:
        found = _begin(catalog)
        for batch in catalog.stream():
            good, without_file = decode_conditions(batch.good, catalog, pool)
            found.good += len(good)
            found.categories.update(good["category"])
            for rejected in (batch.rejected, without_file):
                found.set_aside += rejected["row"].nunique()
                _count(found, rejected)
    return found


def _begin(catalog: Catalog) -> CatalogCheck:
    converted = catalog.converted
    if converted is None:
        present = catalog.column_names()
        columns = {name: name for name in PRODUCTS.names if name in present}
        others = tuple(name for name in present if name not in columns)
        return CatalogCheck(uri=catalog.uri, format="Parquet", columns=columns, others=others)
    return CatalogCheck(
        uri=catalog.uri,
        format=f"{converted.format}; its columns are {converted.reader}",
        columns=converted.meanings,
        others=converted.others,
    )


def _count(found: CatalogCheck, rejected: pd.DataFrame) -> None:
    """Counts rejected rows by column and reason, without the file names and lines in reasons."""
    for row, sku, column, reason in rejected.itertuples(index=False, name=None):
        code, _, details = str(reason).partition(": ")
        kind = (str(column), code)
        found.reasons[kind] += 1
        examples = found.examples.setdefault(kind, [])
        if len(examples) < MOST_EXAMPLES:
            shown = [printable(sku)] if isinstance(sku, str) else []
            if str(reason).startswith(QUOTE_NOT_CLOSED):
                shown.append(details.partition(";")[0])
            examples.append(f"{row} ({', '.join(shown)})" if shown else str(row))


def _some(names: "tuple[str, ...] | list[str]") -> str:
    more = len(names) - MOST_SHOWN
    return ", ".join(names[:MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
