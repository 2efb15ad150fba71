"""Reads CSV, TSV and similar files; detects the delimiter."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

from catalog_schemas.validation import TableError
from toygan.planning.catalog_files.rows import UNDECODABLE, RawRow, RawTable

DELIMITERS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
MOST_LETTERS: Final = 2**22  # the largest number of characters in a cell
# the largest number of lines in a row; a quote that is never closed makes all further lines one row
MOST_LINES: Final = 10_000
_SNIFFED_LETTERS: Final = 2**16
_SNIFFED_ROWS: Final = 20


@contextmanager
def open_delimited(path: Path, encoding: str) -> Iterator[RawTable]:
    """Opens a text file of rows. Raises TableError if it has no header, or a quote that is never closed.

    A row with more cells than the header is set aside (`too_many_cells`), and so is a row with bytes that are
    invalid in the file's encoding (`not_decodable`). Missing cells at the end of a row are empty. Empty lines
    are skipped.
    """
    csv.field_size_limit(MOST_LETTERS)
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        sample = file.read(_SNIFFED_LETTERS)
        delimiter = _find_delimiter(sample)
        file.seek(0)
        rows = _read(file, delimiter, path)
        header = next(rows, None)
        if header is None:
            raise TableError(f"{path}: the file has no rows; its first row must name the columns")
        yield RawTable(
            format=f"text of cells between {DELIMITERS[delimiter]}, {_shown(encoding)}",
            header=header,
            rows=_raw_rows(rows, header),
        )


def _shown(encoding: str) -> str:
    names = {
        "utf-8-sig": "UTF-8",
        "gb18030": "GB 18030",
        "iso2022_jp_ext": "ISO-2022-JP",
        "iso2022_kr": "ISO-2022-KR",
    }
    return names.get(encoding, encoding.upper())


def _find_delimiter(sample: str) -> str:
    """Returns the delimiter with which most of the first rows have as many cells as the header.

    If several delimiters are equally good, it returns the one that gives more cells.
    """

    def fit(delimiter: str) -> tuple[float, int]:
        rows = []
        try:
            for row in csv.reader(io.StringIO(sample), delimiter=delimiter):
                if any(row):
                    rows.append(len(row))
                if len(rows) == _SNIFFED_ROWS:
                    break
        except csv.Error:
            return (0.0, 0)
        if not rows or rows[0] < 2:
            return (0.0, 0)
        return (Counter(rows)[rows[0]] / len(rows), rows[0])

    return max(DELIMITERS, key=fit)


def _read(file: TextIO, delimiter: str, path: Path) -> Iterator[list[str]]:
    reader = csv.reader(file, delimiter=delimiter)
    line = 0
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise TableError(
                f"{path}: the row that begins in line {line + 1} cannot be read ({error}); is a quote "
                "there never closed?"
            ) from None
        if row is None:
            return
        if reader.line_num - line > MOST_LINES:
            raise TableError(f"{path}: a quote that is opened in line {line + 1} is never closed; close it")
        line = reader.line_num
        if any(row):
            yield row


def _raw_rows(rows: Iterator[list[str]], header: Sequence[str]) -> Iterator[RawRow]:
    width = len(header)
    for number, cells in enumerate(rows):
        problem = None
        if len(cells) < width:
            cells += [""] * (width - len(cells))
        elif len(cells) > width and any(cells[width:]):
            problem = (header[-1], "too_many_cells")
        for name, cell in zip(header, cells, strict=False):
            if UNDECODABLE in cell:
                problem = (name, "not_decodable")
        yield RawRow(number, cells[:width], problem)
