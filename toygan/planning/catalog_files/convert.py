"""Converts a shop's catalog file to Parquet with the contract's columns.

This file is then checked like any other catalog.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from catalog_schemas.products import PRODUCTS, REQUIRED, SourceRows
from catalog_schemas.validation import TableError
from toygan.errors import BadInput
from toygan.names import printable
from toygan.planning.catalog_files.columns import (
    ATTRIBUTE_PREFIX,
    ATTRIBUTES,
    Product,
    Reader,
    choose_reader,
)
from toygan.planning.catalog_files.delimited import open_delimited
from toygan.planning.catalog_files.encoding import find_encoding
from toygan.planning.catalog_files.excel import is_workbook, open_workbook
from toygan.planning.catalog_files.feed import open_feed
from toygan.planning.catalog_files.rows import QUOTE_NOT_CLOSED, Problem, RawTable

_BATCH_ROWS: Final = 8192
_LONGEST_HEAD: Final = 4096  # the number of bytes at the start of a file that identify its format
_SHOWN_COLUMNS: Final = 40
_SHOWN_LETTERS: Final = 40
_MAP: Final = pa.map_(pa.string(), pa.string())


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A converted catalog: the new file, the original format, and the origin of its rows."""

    path: Path
    format: str
    reader: str  # describes the original's columns for a person
    meanings: Mapping[str, str]  # maps columns of the contract to columns of the file
    others: tuple[str, ...]  # the columns of the file that are not read
    rows: SourceRows
    # False if a product may be missing, because a row, or a folder of snapshots, cannot be read
    is_complete: bool = True


def is_parquet(path: Path) -> bool:
    """Says whether the content is Parquet.

    An empty file counts as Parquet, so that the Parquet reader reports it.
    """
    with path.open("rb") as file:
        head = file.read(4)
    return head in (b"PAR1", b"")


def convert(
    path: Path, target: Path, mapping: Mapping[str, str], *, required: Sequence[str] = REQUIRED
) -> Converted:
    """Writes the rows of the file `path` to `target`. `mapping` maps columns of the contract to columns of
    the file. The content determines the format, not the name.

    Raises TableError for a file that is not a catalog, or that has no column for one of `required`. Raises
    BadInput for a mapping that does not fit.
    """
    with _open(path) as raw:
        reader = choose_reader(raw.header, mapping)
        meanings = reader.meanings
        _check_required(path, raw, meanings, required)
        read = {name for theirs in meanings.values() for name in theirs.split(" or ")}
        others = tuple(name for name in raw.header if name and name not in read)
        result = Converted(
            path=target,
            format=raw.format,
            reader=reader.name,
            meanings=meanings,
            others=others,
            rows=SourceRows(),
        )
        names = {ATTRIBUTES if name.startswith(ATTRIBUTE_PREFIX) else name for name in meanings}
        schema = pa.schema([(each.name, each.type) for each in PRODUCTS if each.name in names])
        with pq.ParquetWriter(target, schema, compression="zstd") as writer:
            for batch in _batches(raw, reader, result.rows, schema):
                writer.write_table(batch)
    is_cut = any(reason.startswith(QUOTE_NOT_CLOSED) for _, reason in result.rows.problems.values())
    return replace(result, is_complete=not is_cut)


def _open(path: Path) -> AbstractContextManager[RawTable]:
    with path.open("rb") as file:
        head = file.read(_LONGEST_HEAD)
    if head.startswith(b"PK\x03\x04"):
        if is_workbook(path):
            return open_workbook(path)
        raise TableError(f"{path}: this is a ZIP file, but not an Excel workbook; unpack it")
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        raise TableError(f"{path}: this is a workbook in Excel's old format; save it as .xlsx or CSV")
    encoding = find_encoding(path)
    text = head.decode(encoding, "replace").lstrip()
    if text.startswith("<"):
        return open_feed(path)
    if text.startswith(("{", "[")):
        raise TableError(f"{path}: looks like JSON, which is not read; save it as CSV or Parquet")
    if sum(letter < "\t" or "\r" < letter < " " or letter == "\ufffd" for letter in text) > len(text) // 50:
        raise TableError(
            f"{path}: not a catalog (it begins with {head[:4]!r}); give Parquet, CSV, TSV, .xlsx, a "
            "Shopify export or a Merchant Center feed"
        )
    return open_delimited(path, encoding)


def _check_required(path: Path, raw: RawTable, meanings: Mapping[str, str], required: Sequence[str]) -> None:
    found = ", ".join(printable(name[:_SHOWN_LETTERS]) for name in raw.header[:_SHOWN_COLUMNS])
    for column in required:
        if column not in meanings:
            raise TableError(
                f"{path}: the required column {column!r} is missing; add it, or name the column that "
                f"holds it by --map {column}=COLUMN. Columns found: {found}"
            )


def _batches(raw: RawTable, reader: Reader, rows: SourceRows, schema: pa.Schema) -> Iterator[pa.Table]:
    batch = _Batch(schema)
    for row in raw.rows:
        product = reader.product(row.cells)
        if product is None:
            if not row.is_cut:
                continue
            product = {}
        position = len(rows.numbers)
        rows.numbers.append(row.number)
        problem = batch.add(product)
        if problem := row.problem or problem:
            rows.problems[position] = problem
        if len(batch) == _BATCH_ROWS:
            yield batch.table()
            batch = _Batch(schema)
    yield batch.table()


@dataclass
class _Batch:
    """Collects rows for an Arrow table."""

    schema: pa.Schema
    columns: dict[str, list[Any]] = field(init=False)

    def __post_init__(self) -> None:
        self.columns = {name: [] for name in self.schema.names}

    def __len__(self) -> int:
        return len(self.columns["sku"])

    def add(self, product: Product) -> Problem | None:
        """Adds a row; returns column and reason of the first cell with an invalid value."""
        problem = None
        for name, values in self.columns.items():
            value = product.get(name)
            try:
                values.append(None if value is None else _PARSERS.get(name, _text)(value))
            except (ValueError, RecursionError):
                values.append(None)
                problem = problem or (name, "malformed")
        return problem

    def table(self) -> pa.Table:
        arrays = [pa.array(self.columns[each.name], each.type) for each in self.schema]
        return pa.table(arrays, names=self.schema.names)


def _text(value: Any) -> str:
    return str(value)


def _number(value: Any) -> int:
    number = int(str(value))
    # a larger number is invalid; 0 is invalid, too, and fits the column
    return number if abs(number) < 2**31 else 0


def _moment(value: Any) -> datetime:
    moment = datetime.fromisoformat(str(value))
    return moment.replace(tzinfo=moment.tzinfo or UTC)


def _attributes(value: Any) -> list[tuple[str, str]]:
    """Parses attributes, which come from a column each, or from one column with a JSON object.

    Raises ValueError or RecursionError for any other text.
    """
    found = value if isinstance(value, dict) else json.loads(value)
    if not isinstance(found, dict):
        raise ValueError("no object")
    pairs = [(str(name), text if isinstance(text, str) else json.dumps(text)) for name, text in found.items()]
    for part in (part for pair in pairs for part in pair):
        part.encode()  # raises for half a surrogate pair, which JSON can hold and Parquet cannot
    return pairs


_PARSERS: Final = {"images_wanted": _number, "updated_at": _moment, ATTRIBUTES: _attributes}


def parse_mapping(stated: Sequence[str]) -> dict[str, str]:
    """Parses `column=theirs` from the command line; raises BadInput for anything else."""
    mapping = {}
    for each in stated:
        column, equals, theirs = each.partition("=")
        if not (equals and column.strip() and theirs.strip()):
            raise BadInput(f"--map {each!r} is malformed; write --map column=theirs, such as title=Name")
        mapping[column.strip()] = theirs.strip()
    return mapping
