"""Separates the good rows of a table from the bad ones. All contracts share this module.

There are two kinds of errors. A bad table (missing file, not Parquet, a missing column, a wrong type) cannot
be used at all and raises TableError. A bad row is set aside as (row, sku, column, reason) and does not stop
the others.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

SCHEMA_VERSION = 1
SCHEMA_KEY = b"toygan_schema"
MOST_WHOLE = 2**63 - 1  # the largest whole number in a table

NAME_PATTERN = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"

_MOST_NAME_LETTERS = 128
_MAGIC = b"PAR1"
_ROW_GROUP_ROWS = 65_536
_SHOWN_SKU_LETTERS = 128


class TableError(ValueError):
    """A table cannot be used. The message names the file, the column and the remedy."""


def is_category(text: str) -> bool:
    """Says whether a text can name a category: 1 to 128 printable characters, without a space at an end."""
    return 0 < len(text) <= _MOST_NAME_LETTERS and text.isprintable() and text == text.strip()


def is_sku(text: str) -> bool:
    """Says whether a text can be a sku: like a category, but without slashes."""
    return is_category(text) and "/" not in text and "\\" not in text


@dataclass(frozen=True, kw_only=True)
class CheckedTable:
    """The usable and the unusable rows of a table.

    The index of `good` is the 0-based row number in the file. `rejected` has the columns of REJECTED_ROWS and
    is sorted by row. It has one row for each wrong cell, so a row with two wrong columns appears twice.
    """

    good: "pd.DataFrame"
    rejected: "pd.DataFrame"


def make_schema(name: str, fields: Sequence[pa.Field]) -> pa.Schema:
    """Makes an Arrow schema with its name and version in the metadata, for example `products/1`."""
    return pa.schema(fields, metadata={SCHEMA_KEY: f"{name}/{SCHEMA_VERSION}".encode()})


REJECTED_ROWS = make_schema(
    "rejected_rows",
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("sku", pa.string()),
        pa.field("column", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ],
)


def check_schema(found: pa.Schema, contract: pa.Schema, required: Collection[str], where: str) -> None:
    """Raises TableError unless a table with the schema `found` can be read as `contract`.

    Columns outside `required` may be absent or empty (type null). Columns outside the contract are ignored.
    The types string, large_string, string_view and dictionaries of them count as strings. The message begins
    with `where`.
    """
    _check_version(found, contract, where)
    _check_columns(found, contract, required, where)


def _check_columns(found: pa.Schema, contract: pa.Schema, required: Collection[str], where: str) -> None:
    for field in contract:
        indices = found.get_all_field_indices(field.name)
        need = "required" if field.name in required else "optional"
        if not indices and field.name not in required:
            continue
        if not indices:
            raise TableError(
                f"{where}: the required column {field.name!r} is missing; add it as "
                f"{describe_type(field.type)}. Columns found: {', '.join(found.names) or 'none'}"
            )
        if len(indices) > 1:
            raise TableError(
                f"{where}: the column {field.name!r} is there {len(indices)} times; keep only one of them"
            )
        kind = found.field(indices[0]).type
        if pa.types.is_null(kind) and field.name not in required:
            continue
        if not fits(kind, field.type):
            raise TableError(
                f"{where}: the {need} column {field.name!r} has the type {describe_type(kind)}; it must be "
                f"{describe_type(field.type)}; cast the column and write the file again"
            )


def fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Says whether a column of type `found` can be read as `wanted` without loss or guessing.

    Any integer type counts as an integer (its values are checked row by row). A timestamp with a time zone
    may have any unit. Half and double precision count as floats.
    """
    if pa.types.is_dictionary(found):
        return fits(found.value_type, wanted)
    if pa.types.is_string(wanted):
        return _is_string(found)
    if pa.types.is_binary(wanted):
        return bool(pa.types.is_binary(found) or pa.types.is_large_binary(found))
    if pa.types.is_map(wanted):
        return pa.types.is_map(found) and _is_string(found.key_type) and _is_string(found.item_type)
    if pa.types.is_integer(wanted):
        return bool(pa.types.is_integer(found))
    if pa.types.is_floating(wanted):
        return bool(pa.types.is_floating(found))
    if pa.types.is_timestamp(wanted):
        return pa.types.is_timestamp(found) and (found.tz is not None) == (wanted.tz is not None)
    if pa.types.is_list(wanted):
        is_list = pa.types.is_list(found) or pa.types.is_large_list(found)
        return is_list and fits(found.value_type, wanted.value_type)
    return bool(found == wanted)


def conform(table: pa.Table, contract: pa.Schema, where: str) -> pa.Table:
    """Converts a table to exactly the contract's columns, order, types and metadata.

    The table may be a selection of another contract's columns. Raises TableError if a column is missing, has
    an unsuitable type, or holds nulls that the contract forbids.
    """
    _check_columns(table.schema, contract, contract.names, where)
    columns = []
    for field in contract:
        try:
            column = cast(table.column(field.name), field.type)
        except pa.ArrowInvalid as error:
            raise TableError(f"{where}: the column {field.name!r} does not fit its type: {error}") from None
        if column.null_count and not field.nullable:
            raise TableError(
                f"{where}: the column {field.name!r} has {column.null_count} null values; it may have none"
            )
        columns.append(column)
    return pa.table(columns, schema=contract)


def cast(column: pa.ChunkedArray | pa.Array, wanted: pa.DataType) -> pa.ChunkedArray | pa.Array:
    """Casts a column that `fits` to the contract's type. A timestamp is cut to the contract's unit."""
    if column.type == wanted:
        return column
    return pc.cast(column, wanted, safe=not pa.types.is_timestamp(wanted))


def describe_type(kind: pa.DataType) -> str:
    """Returns the type's name in the contracts, for example `map<string,string>`."""
    if pa.types.is_map(kind):
        return f"map<{describe_type(kind.key_type)},{describe_type(kind.item_type)}>"
    return str(kind)


@contextmanager
def parquet_errors(path: Path) -> Iterator[None]:
    """Turns errors in reading a Parquet file into a TableError with a remedy."""
    try:
        yield
    except FileNotFoundError:
        raise TableError(f"{path}: there is no such file; check the path") from None
    except IsADirectoryError:
        raise TableError(f"{path}: this is a folder; give one Parquet file") from None
    except PermissionError:
        raise TableError(f"{path}: this user may not read the file; change its permissions") from None
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path}: the Parquet file is damaged ({error}); write it again") from error


@contextmanager
def open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """Opens a Parquet file. Raises TableError for a missing, empty, truncated or other file."""
    with parquet_errors(path):
        with path.open("rb") as file:
            head = file.read(4)
            size = file.seek(0, 2)
            file.seek(max(0, size - 4))
            tail = file.read(4)
        if not head:
            raise TableError(f"{path}: the file is empty; write it again as Parquet")
        if head != _MAGIC:
            raise TableError(f"{path}: not a Parquet file (it begins with {head!r}); convert it to Parquet")
        if size < 12 or tail != _MAGIC:
            raise TableError(f"{path}: the Parquet file is truncated at {size} bytes; copy or write it again")
        opened = pq.ParquetFile(path)
    with opened:
        yield opened


def parquet_bytes(table: pa.Table) -> bytes:
    """Writes a table as Parquet. With the same pyarrow, equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table, sink, row_group_size=_ROW_GROUP_ROWS, compression="zstd", compression_level=3, version="2.6"
    )
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def read_parquet_bytes(
    data: bytes, contract: pa.Schema, where: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """Reads a table of `contract`, or only some of its columns. Raises TableError naming `where`."""
    wanted = (
        contract
        if columns is None
        else pa.schema([contract.field(name) for name in columns], contract.metadata)
    )
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        check_schema(file.schema_arrow, wanted, wanted.names, where)
        table = file.read(columns=wanted.names)
        table.validate(full=True)  # Arrow reads texts that are not UTF-8 without an error
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise TableError(f"{where}: the Parquet object is damaged ({error})") from error
    return conform(table, wanted, where)


def read_json_object(text: str | bytes, where: str) -> dict[str, Any]:
    """Reads a JSON text that is an object. Raises TableError naming `where` for anything else."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TableError(f"{where}: not JSON ({error})") from error
    if not isinstance(content, dict):
        raise TableError(f"{where}: this is a JSON {type(content).__name__}; it must be an object")
    return content


def rejected_frame(problems: "pd.DataFrame", skus: Iterable[object]) -> "pd.DataFrame":
    """Joins problems (row, column, reason) with their skus in the columns of REJECTED_ROWS.

    A sku is cut at 128 characters. A sku that is not a text becomes null.
    """
    import pandas as pd

    shown = [sku[:_SHOWN_SKU_LETTERS] if isinstance(sku, str) else None for sku in skus]
    return pd.DataFrame(
        {
            "row": problems["row"].to_numpy("int64"),
            "sku": pd.Series(shown, dtype="str"),
            "column": problems["column"].to_numpy(),
            "reason": problems["reason"].to_numpy(),
        }
    ).astype({"column": "str", "reason": "str"})


def row_check(
    reason: str, holds: Callable[["pd.Series[Any]"], "pd.Series[bool]"], *, nulls: bool = False
) -> Any:
    """Makes a pandera check of a whole column. Rows that fail it get `reason`."""
    import pandera.pandas as pandera

    return pandera.Check(holds, ignore_na=not nulls, error=reason)


def not_null() -> Any:
    """Makes the check that a row has a value. Rows without a value get the reason `null`."""
    return row_check("null", lambda values: values.notna(), nulls=True)


def row_schema(checks: Mapping[str, Sequence[Any]], *, required: bool = True) -> Any:
    """Makes a pandera schema of row checks. It does not check types: those of the table were checked."""
    import pandera.pandas as pandera

    return pandera.DataFrameSchema(
        {
            name: pandera.Column(None, checks=list(of_column), nullable=True, required=required)
            for name, of_column in checks.items()
        }
    )


def row_problems(schema: Any, frame: "pd.DataFrame") -> "pd.DataFrame":
    """Returns the problems of a frame as (row, column, reason). `row` is the frame's index.

    Only the first failed check of a cell counts.
    """
    import pandas as pd
    import pandera.errors

    try:
        schema.validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as errors:
        cases = errors.failure_cases
        if cases["index"].isna().any():  # a failure without a row is a bug in the check, not a bad row
            raise
        problems = {
            "row": cases["index"].astype("int64"),
            "column": cases["column"],
            "reason": cases["check"],
        }
        return pd.DataFrame(problems).drop_duplicates(["row", "column"], ignore_index=True)
    return pd.DataFrame({"row": pd.Series(dtype="int64"), "column": [], "reason": []})


def matches(values: "pd.Series[Any]", pattern: re.Pattern[str]) -> "pd.Series[bool]":
    r"""Returns for each string whether it matches as a whole.

    RE2's `\z`, unlike Python's `$`, allows no newline at the end.
    """
    import pandas as pd

    hits = pc.match_substring_regex(pa.array(values, pa.large_string()), rf"\A(?:{pattern.pattern})\z")
    return pd.Series(hits.to_numpy(zero_copy_only=False).astype(bool), index=values.index)


def hash_strings(strings: pa.Array) -> "NDArray[np.uint64]":
    """Hashes the bytes of each string by SipHash-2-4 with a fixed key: (N,) uint64. Takes any bytes."""
    import pandas as pd

    as_bytes = strings.cast(pa.binary()).to_numpy(zero_copy_only=False)
    return pd.util.hash_array(as_bytes, categorize=False)


def _is_string(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_string(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _check_version(found: pa.Schema, contract: pa.Schema, where: str) -> None:
    said = (found.metadata or {}).get(SCHEMA_KEY)
    wanted = contract.metadata[SCHEMA_KEY]
    if said is not None and said != wanted:
        raise TableError(
            f"{where}: the table has the schema {said.decode(errors='replace')}; "
            f"it must be {wanted.decode()}; "
            "use the toygan that wrote it or write it again"
        )
