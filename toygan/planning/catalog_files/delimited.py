"""Reads CSV, TSV and similar files; detects the delimiter."""

import csv
import io
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Self, TextIO

from catalog_schemas.validation import TableError
from toygan.planning.catalog_files.rows import QUOTE_NOT_CLOSED, UNDECODABLE, RawRow, RawTable

DELIMITERS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
MOST_LETTERS: Final = 2**22  # the largest number of characters in a cell
# the largest number of lines in a row; a quote that is never closed makes all further lines one row
MOST_LINES: Final = 10_000
# the largest number of characters that are read again after quotes that are never closed
MOST_REREAD_LETTERS: Final = 2**30
_REMEDY: Final = "close the quote, or double each quote inside the text"
_SNIFFED_LETTERS: Final = 2**16
_SNIFFED_ROWS: Final = 20


@contextmanager
def open_delimited(path: Path, encoding: str) -> Iterator[RawTable]:
    """Opens a text file of rows.

    A row with more cells than the header is set aside (`too_many_cells`), and so is a row with bytes that are
    invalid in the file's encoding (`not_decodable`). If a line opens a quote that is never closed, the line
    is set aside (`quote_not_closed`), and the next line begins a row. Missing cells at the end of a row are
    empty. Empty lines are skipped.

    Raises TableError if the file has no header, or a quote in the header is never closed, and between rows if
    a line is too long or too many quotes are never closed.
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
        if header.is_cut:
            raise TableError(f"{path}: line {header.line} opens a quote that is never closed; {_REMEDY}")
        yield RawTable(
            format=f"text of cells between {DELIMITERS[delimiter]}, {_shown(encoding)}",
            header=header.cells,
            rows=_raw_rows(rows, header.cells),
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


@dataclass(kw_only=True)
class _Lines:
    """The lines of a file. After the first line of a row, the others can be read again."""

    file: Iterator[str]
    before: int = 0  # the number of lines before the row
    row: list[str] = field(default_factory=list)  # the lines of the row so far
    again: deque[str] = field(default_factory=deque)  # the next lines, which were read before

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        if len(self.row) == MOST_LINES:
            raise csv.Error(f"it has more than {MOST_LINES:,} lines")
        line = self.again.popleft() if self.again else next(self.file)
        self.row.append(line)
        return line

    def begin_row(self) -> None:
        self.before += len(self.row)
        self.row.clear()

    def go_back(self) -> int:
        """Goes back to the second line of the row; returns the number of characters to read again."""
        others = self.row[1:]
        del self.row[1:]
        self.again.extendleft(reversed(others))
        return sum(map(len, others))


class _Row(NamedTuple):
    cells: list[str]
    line: int  # the number of its first line, from 1
    is_cut: bool  # the row ends with this line, because a quote in it is never closed


def _read(file: TextIO, delimiter: str, path: Path) -> Iterator[_Row]:
    """Yields the rows that are not empty.

    A quote counts as never closed if the row goes on in the next line and then is not well-formed, has more
    cells than the header, or has more than MOST_LINES lines.
    """
    lines = _Lines(file=file)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    reread_letters = 0
    width: int | None = None
    while True:
        is_cut = False
        try:
            cells = next(reader, None)
            is_whole = width is None or len(lines.row) < 2 or not any((cells or [])[width:])
        except csv.Error:
            is_whole = False
        if not is_whole:
            reread_letters += lines.go_back()
            cells, is_cut = _read_line(lines, delimiter, path)
        if cells is None:
            return
        if reread_letters > MOST_REREAD_LETTERS:
            raise TableError(
                f"{path}: line {lines.before + 1} opens one of too many quotes that are never closed; "
                "write the file again"
            )
        if is_cut or any(cells):
            yield _Row(cells, lines.before + 1, is_cut)
            width = width or len(cells)
        lines.begin_row()


def _read_line(lines: _Lines, delimiter: str, path: Path) -> tuple[list[str], bool]:
    """Reads the first line of a row that is not well-formed. Says whether the line ends within quotes."""
    reader = csv.reader([lines.row[0], ""], delimiter=delimiter)
    try:
        cells = next(reader)
    except csv.Error as error:
        raise TableError(
            f"{path}: line {lines.before + 1} cannot be read ({error}); is a quote there never closed?"
        ) from None
    # within quotes, the reader goes on to the next line
    return cells, reader.line_num > 1


def _raw_rows(rows: Iterator[_Row], header: Sequence[str]) -> Iterator[RawRow]:
    width = len(header)
    for number, (cells, line, is_cut) in enumerate(rows):
        problem = None
        last = min(len(cells), width) - 1
        if len(cells) < width:
            cells += [""] * (width - len(cells))
        elif len(cells) > width and any(cells[width:]):
            problem = (header[-1], "too_many_cells")
        for name, cell in zip(header, cells, strict=False):
            if UNDECODABLE in cell:
                problem = (name, "not_decodable")
        if is_cut:
            problem = (header[last], f"{QUOTE_NOT_CLOSED}line {line}; {_REMEDY}")
        yield RawRow(number, cells[:width], problem)
