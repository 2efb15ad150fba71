"""The raw rows of a file, before its columns are interpreted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

UNDECODABLE: Final = "\ufffd"  # the character in the place of bytes that are invalid in the file's encoding

# the beginning of the reason for a row whose quote is never closed
QUOTE_NOT_CLOSED: Final = "quote_not_closed: "

# the column and the reason, as in the table of rows that were set aside
Problem = tuple[str, str]


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row with as many texts as the header; an empty cell is ""."""

    number: int  # the number of the row in the file, from 0
    cells: Sequence[str]
    problem: Problem | None = None

    @property
    def is_cut(self) -> bool:
        """Whether the row ends with its first line, because a quote in that line is never closed."""
        return self.problem is not None and self.problem[1].startswith(QUOTE_NOT_CLOSED)


@dataclass(frozen=True, kw_only=True)
class RawTable:
    """A file that is open for reading; `rows` can be iterated once."""

    format: str  # describes the file's format for a person
    header: Sequence[str]
    rows: Iterator[RawRow]
