"""Reads the first sheet of an Excel workbook that has rows."""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, Final

from catalog_schemas.validation import TableError
from toygan.planning.catalog_files.rows import RawRow, RawTable

MOST_BYTES: Final = 2**31  # unpacked
# The parts that openpyxl keeps in memory, unpacked: the texts of all cells, which take a few times as much
# there, and those that become trees of objects.
MOST_TEXT_BYTES: Final = 2**28
MOST_TREE_BYTES: Final = 2**25
# Cells differ, so they cannot be packed so far. Zeros, which fill a memory, are packed to a thousandth.
MOST_PACKING: Final = 200

_TEXTS: Final = "xl/sharedstrings.xml"
_TREES: Final = (
    "xl/workbook.",
    "xl/styles.",
    "xl/theme/",
    "xl/externallinks/",
    "docprops/",
    "[content_types]",
)


def is_workbook(path: Path) -> bool:
    """Whether a ZIP file is an .xlsx workbook; raises TableError for a damaged file."""
    return "xl/workbook.xml" in _contents(path)


@contextmanager
def open_workbook(path: Path) -> Iterator[RawTable]:
    """Opens the first sheet with rows; formulas are replaced by their values.

    Raises TableError for a damaged workbook, for a workbook without rows, and for a workbook that does not
    fit the memory.
    """
    from openpyxl import load_workbook

    _check_size(path)
    # the file is opened here, because openpyxl refuses other file names than *.xlsx
    with path.open("rb") as file:
        try:
            workbook = load_workbook(file, read_only=True, data_only=True)
        except Exception as error:  # damaged parts raise exceptions of any type
            raise _damaged(path, error) from error
        for sheet in workbook.worksheets:
            rows = _rows(path, sheet)
            header = next((row for row in rows if any(row)), None)
            if header is not None:
                yield RawTable(
                    format=f"Excel workbook, sheet {sheet.title}", header=header, rows=_raw_rows(rows, header)
                )
                return
    raise TableError(f"{path}: the workbook has no rows; its first row must name the columns")


def _check_size(path: Path) -> None:
    contents = {name.lower(): size for name, size in _contents(path).items()}
    texts = contents.get(_TEXTS, 0)
    trees = sum(size for name, size in contents.items() if name.startswith(_TREES) or name.endswith(".rels"))
    total_bytes, packed_bytes = sum(contents.values()), path.stat().st_size
    if (
        total_bytes > MOST_BYTES
        or total_bytes > MOST_PACKING * packed_bytes
        or texts > MOST_TEXT_BYTES
        or trees > MOST_TREE_BYTES
    ):
        raise TableError(
            f"{path}: the workbook unpacks from {packed_bytes:,} to {total_bytes:,} bytes, {texts:,} of them "
            "texts; that is too much for the memory; save it as CSV"
        )


def _damaged(path: Path, error: Exception) -> TableError:
    return TableError(f"{path}: the workbook is damaged ({error!r}); save it again")


def _rows(path: Path, sheet: Any) -> Iterator[list[str]]:
    # A sheet that is formatted as a whole states 16,384 columns, with which openpyxl would fill each row.
    sheet.reset_dimensions()
    rows = sheet.iter_rows(values_only=True)
    while True:
        try:
            row = next(rows, None)
        except Exception as error:  # damaged parts raise exceptions of any type
            raise _damaged(path, error) from error
        if row is None:
            return
        yield [_text(cell) for cell in row]


def _contents(path: Path) -> dict[str, int]:
    """Returns the unpacked bytes of each file in the archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {each.filename: each.file_size for each in archive.infolist()}
    except (zipfile.BadZipFile, OSError) as error:
        raise TableError(f"{path}: the workbook is damaged ({error}); save it again") from None


def _raw_rows(rows: Iterator[list[str]], header: Sequence[str]) -> Iterator[RawRow]:
    number = 0
    for cells in rows:
        if any(cells):
            problem = (header[-1], "too_many_cells") if any(cells[len(header) :]) else None
            padded = cells[: len(header)] + [""] * (len(header) - len(cells))
            yield RawRow(number, padded, problem)
            number += 1


def _text(cell: Any) -> str:
    """Formats a cell as a person would type it: 3001, not 3001.0."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, datetime | date | time):
        return cell.isoformat()
    return str(cell).strip()
