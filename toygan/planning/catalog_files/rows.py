"""The rows of a file as it is, before anybody knows what its columns mean."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

# column and reason, as in the table of rows that are set aside
Problem = tuple[str, str]


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row: as many texts as the header, "" where a cell is empty."""

    number: int  # 0-based, in the file
    cells: Sequence[str]
    problem: Problem | None = None


@dataclass(frozen=True, kw_only=True)
class RawTable:
    """A file that was opened; `rows` may be walked once."""

    format: str  # what it is, for a person
    header: Sequence[str]
    rows: Iterator[RawRow]


OpenTable = AbstractContextManager[RawTable]
