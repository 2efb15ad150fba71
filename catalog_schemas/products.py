"""The catalog: reads it in batches, checks every row, and separates good rows from bad ones."""

import dataclasses
import json
import posixpath
import re
from array import array
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog_schemas.validation import (
    CheckedTable,
    cast,
    check_schema,
    hash_strings,
    is_category,
    is_sku,
    make_schema,
    matches,
    not_null,
    open_parquet,
    parquet_errors,
    rejected_frame,
    row_check,
    row_problems,
    row_schema,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

BATCH_ROWS = 65_536
MAX_IMAGES_WANTED = 64
DEFAULT_LANGUAGE = "en"
FINISHES = ("solid", "transparent", "metal", "chrome", "pearlescent", "rubber")
CONDITION_COLUMNS = {"sketch": "sketch_uri", "layout": "layout_uri", "photo": "photo_uri"}
# These columns describe a layout by the layouts of other products.
EDIT_COLUMNS = ("variant_of", "recolour", "dress_from")
MAX_URI_LETTERS = 1000

COLOUR_HEX_PATTERN = re.compile(r"#[0-9A-Fa-f]{6}")
# Well-formed tags of BCP 47 (RFC 5646, section 2.1), without the 26 old irregular tags.
LANGUAGE_PATTERN = re.compile(
    r"(?:[A-Za-z]{2,3}(?:-[A-Za-z]{3}){0,3}|[A-Za-z]{4,8})"
    r"(?:-[A-Za-z]{4})?(?:-(?:[A-Za-z]{2}|[0-9]{3}))?"
    r"(?:-(?:[A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*"
    r"(?:-[0-9A-WY-Za-wy-z](?:-[A-Za-z0-9]{2,8})+)*(?:-[Xx](?:-[A-Za-z0-9]{1,8})+)?"
    r"|[Xx](?:-[A-Za-z0-9]{1,8})+"
)

_LABEL = r"[^=,;，；\x00-\x1f\x7f]{1,64}"
RECOLOUR_PATTERN = re.compile(rf"{_LABEL}={_LABEL}(?:[,;，；]{_LABEL}={_LABEL}){{0,15}}")
DRESS_PATTERN = re.compile(rf"[^\x00-\x1f\x7f/\\]{{1,128}}={_LABEL}(?:[,;，；]{_LABEL}){{0,15}}")

PRODUCTS = make_schema(
    "products",
    [
        pa.field("sku", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("description", pa.string()),
        pa.field("language", pa.string()),
        pa.field("colour", pa.string()),
        pa.field("colour_hex", pa.string()),
        pa.field("finish", pa.string()),
        pa.field("attributes", pa.map_(pa.string(), pa.string())),
        *(pa.field(name, pa.string()) for name in (*CONDITION_COLUMNS.values(), *EDIT_COLUMNS)),
        pa.field("images_wanted", pa.int32()),
        pa.field("updated_at", pa.timestamp("us", tz="UTC")),
    ],
)
REQUIRED = ("sku", "category", "title")

_TEXTS = ("category", "title", "description", "language", "colour", "finish")
# The columns that a picture depends on, beside its condition files.
FINGERPRINTED = (
    "category",
    "title",
    "description",
    "language",
    "colour",
    "colour_hex",
    "finish",
    "attributes",
)
_canonical_json = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def row_fingerprint(product: Mapping[str, object], condition_sha256: Mapping[str, str]) -> str:
    """Computes the sha256 (lower-case hex) of everything that a product's pictures depend on.

    The hash is that of the canonical JSON (sorted keys, no spaces, UTF-8) of category, title, description,
    language, colour, colour_hex in upper case, finish, attributes and `condition_sha256`. `condition_sha256`
    maps sketch, layout and photo to the sha256 of their files. A missing language counts as `en`, and missing
    attributes count as empty. The hash ignores all other values of `product`, for example images_wanted and
    updated_at.
    """
    # A null is None, NaN or NA, depending on the reader.
    fields: dict[str, object] = {
        name: value if isinstance(value := product.get(name), str) else None for name in _TEXTS
    }
    fields["language"] = fields["language"] or DEFAULT_LANGUAGE
    colour_hex = product.get("colour_hex")
    fields["colour_hex"] = colour_hex.upper() if isinstance(colour_hex, str) else None
    attributes = product.get("attributes")
    fields["attributes"] = attributes if isinstance(attributes, dict) else {}
    fields["condition_sha256"] = dict(condition_sha256)
    return sha256(_canonical_json(fields).encode()).hexdigest()


@dataclasses.dataclass(kw_only=True)
class SourceRows:
    """The original rows of a table that was converted from another format."""

    # the 0-based number of each row in the original file
    numbers: "array[int]" = dataclasses.field(default_factory=lambda: array("q"))
    # Maps the number of an unreadable row in the table to its column and reason.
    problems: dict[int, tuple[str, str]] = dataclasses.field(default_factory=dict)


def stream_products(
    path: Path, *, source: SourceRows | None = None, batch_rows: int = BATCH_ROWS
) -> Iterator[CheckedTable]:
    """Checks the catalog's rows and yields them, `batch_rows` at a time.

    `good` has exactly the columns of PRODUCTS. An absent optional column is null, a missing language is `en`,
    colour_hex is in upper case, attributes are dict[str, str | None] or None. The file is read twice. The
    first pass reads only the skus and keeps their hashes (8 bytes a row) to find possible duplicates. The
    second pass reads everything. Of several rows with the same sku, the first row without another problem is
    kept. With a `source`, rows are numbered as in the original file, and rows that could not be converted are
    set aside. Raises TableError, before the first batch or between batches, if the table cannot be used.
    """
    with open_parquet(path) as file:
        columns = _present_columns(file.schema_arrow, path)
        twins = _Twins(_repeated_hashes(file, path, batch_rows))
        start = 0
        batches = file.iter_batches(batch_size=batch_rows, columns=columns)
        while True:
            with parquet_errors(path):
                batch = next(batches, None)
            if batch is None:
                return
            yield _check_batch(batch, start, path, twins, source)
            start += len(batch)


def _present_columns(found: pa.Schema, path: Path) -> list[str]:
    check_schema(found, PRODUCTS, REQUIRED, str(path))
    return [name for name in PRODUCTS.names if name in found.names]


class _Twins:
    """Remembers which of the repeated skus an earlier row has.

    For each hash that several rows have, it keeps 16 bytes of BLAKE2b of the first sku with this hash. This
    needs at most 13 bytes for each row of the table, however long the skus are.
    """

    def __init__(self, repeated: "NDArray[np.uint64]") -> None:
        import numpy as np

        self._repeated = repeated
        self._taken = np.zeros(len(repeated), dtype="V16")
        self._is_taken = np.zeros(len(repeated), dtype=bool)
        self._colliding: set[bytes] = set()  # BLAKE2b of skus whose hash an earlier, different sku has

    def later_ones(self, skus: pa.Array) -> "NDArray[np.bool_]":
        """Finds the rows with a sku that an earlier row has. Remembers the skus of the others."""
        import numpy as np

        later = np.zeros(len(skus), dtype=bool)
        if len(self._repeated):
            hashes = hash_strings(skus)
            places = np.searchsorted(self._repeated, hashes)
            for row in np.flatnonzero(np.isin(hashes, self._repeated)):
                later[row] = not self._take(
                    places[row], blake2b(skus[row].as_buffer(), digest_size=16).digest()
                )
        return later

    def _take(self, place: int, digest: bytes) -> bool:
        if not self._is_taken[place]:
            self._is_taken[place] = True
            self._taken[place] = digest
            return True
        if self._taken[place].tobytes() == digest or digest in self._colliding:
            return False
        self._colliding.add(digest)
        return True


def _repeated_hashes(file: pq.ParquetFile, path: Path, batch_rows: int) -> "NDArray[np.uint64]":
    """Returns the 64-bit hashes that more than one sku of the file has, sorted."""
    import numpy as np

    with parquet_errors(path):
        batches = file.iter_batches(batch_size=batch_rows, columns=["sku"])
        hashes = [hash_strings(cast(batch.column(0), pa.string()).drop_null()) for batch in batches]
    ordered = np.concatenate([np.empty(0, np.uint64), *hashes])
    del hashes
    ordered.sort()
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


def _check_batch(
    batch: pa.RecordBatch, start: int, path: Path, twins: _Twins, source: SourceRows | None
) -> CheckedTable:
    import numpy as np
    import pandas as pd

    columns, broken = _as_contract(batch, path)
    if source is not None:
        rows = (row for row in range(len(batch)) if start + row in source.problems)
        broken = [*((row, *source.problems[start + row]) for row in rows), *broken]
    undecodable = pd.DataFrame(broken, columns=["row", "column", "reason"]).astype({"row": "int64"})
    attributes = columns.pop("attributes")
    frame = pa.table(columns).to_pandas()
    problems = pd.concat([undecodable, row_problems(_row_checks(), frame)]).drop_duplicates(["row", "column"])
    bad = np.zeros(len(frame), dtype=bool)
    bad[problems["row"]] = True
    candidates = np.flatnonzero(~bad)
    later = candidates[twins.later_ones(columns["sku"].take(pa.array(candidates)))]
    bad[later] = True
    duplicates = pd.DataFrame({"row": later, "column": "sku", "reason": "duplicate"})
    problems = pd.concat([problems, duplicates]).sort_values("row", kind="stable")
    good = frame[~bad].copy()
    good["language"] = good["language"].fillna(DEFAULT_LANGUAGE)
    good["colour_hex"] = good["colour_hex"].str.upper()
    good["images_wanted"] = good["images_wanted"].astype("Int32")
    good["attributes"] = _dictionaries(attributes.filter(pa.array(~bad)), good.index)
    good = good[PRODUCTS.names]
    numbers = np.arange(start, start + len(frame))
    if source is not None:
        numbers = np.frombuffer(source.numbers, np.int64)[numbers]
    good.index = pd.Index(numbers[good.index])
    rejected = rejected_frame(problems, frame["sku"].loc[problems["row"]])
    rejected["row"] = numbers[rejected["row"]]
    return CheckedTable(good=good, rejected=rejected)


def _as_contract(batch: pa.RecordBatch, path: Path) -> tuple[dict[str, pa.Array], list[tuple[int, str, str]]]:
    """Casts the columns to the contract's types.

    Also returns (row, column, reason) for each text that is not UTF-8.
    """
    columns: dict[str, pa.Array] = {}
    broken: list[tuple[int, str, str]] = []
    for field in PRODUCTS:
        if field.name not in batch.schema.names:
            columns[field.name] = pa.nulls(len(batch), field.type)
            continue
        column = batch.column(field.name)
        if (
            pa.types.is_integer(field.type)
            and column.type != field.type
            and not pa.types.is_null(column.type)
        ):
            none, most = (pa.scalar(number, column.type) for number in (0, MAX_IMAGES_WANTED))
            column = pc.if_else(pc.and_(pc.greater(column, none), pc.less_equal(column, most)), column, none)
        with parquet_errors(path):
            column = cast(column, field.type)
        rows = _broken_text(column)
        if rows:
            broken += [(row, field.name, "not_utf8") for row in rows]
            mask = pa.array([row in rows for row in range(len(column))])
            column = pc.if_else(mask, pa.scalar(None, field.type), column)
        columns[field.name] = column
    return columns, broken


def _broken_text(column: pa.Array) -> set[int]:
    """Finds the rows with text that is not UTF-8. Arrow reads such bytes from Parquet without an error."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return {row for row in range(len(column)) if not _readable(column[row])}
    return set()


def _readable(value: pa.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True


def _dictionaries(attributes: pa.MapArray, index: "pd.Index[Any]") -> "pd.Series[Any]":
    """Converts each row to a dict or None. The last value of a repeated key is kept."""
    import pandas as pd

    keys, values = attributes.keys.to_pylist(), attributes.items.to_pylist()
    ends = attributes.offsets.to_pylist()
    first = ends[0]
    rows = [
        dict(zip(keys[begin - first : end - first], values[begin - first : end - first], strict=True))
        if valid
        else None
        for begin, end, valid in zip(ends, ends[1:], attributes.is_valid().to_pylist(), strict=False)
    ]
    return pd.Series(rows, index=index, dtype=object)


@lru_cache(maxsize=1)
def _row_checks() -> Any:
    """The pandera schema of a row. The name of each check is the reason for setting a row aside."""
    uri = (
        row_check("malformed", lambda values: matches(values, _URI_PATTERN)),
        row_check("not_relative", lambda values: ~matches(values, _ABSOLUTE_PATTERN)),
        row_check("leaves_folder", lambda values: ~values.map(_climbs_out).astype(bool)),
    )
    return row_schema(
        {
            "sku": (not_null(), row_check("malformed", lambda values: values.map(is_sku).astype(bool))),
            "category": (
                not_null(),
                row_check("malformed", lambda values: values.map(is_category).astype(bool)),
            ),
            "title": (not_null(), row_check("blank", lambda values: values.str.strip() != "")),
            "language": (row_check("malformed", lambda values: matches(values, LANGUAGE_PATTERN)),),
            "colour_hex": (row_check("malformed", lambda values: matches(values, COLOUR_HEX_PATTERN)),),
            "finish": (row_check("unknown", lambda values: values.isin(FINISHES)),),
            "images_wanted": (
                row_check("out_of_range", lambda values: values.between(1, MAX_IMAGES_WANTED)),
            ),
            **dict.fromkeys(CONDITION_COLUMNS.values(), uri),
            "variant_of": (row_check("malformed", lambda values: values.map(is_sku).astype(bool)),),
            "recolour": (row_check("malformed", lambda values: matches(values, RECOLOUR_PATTERN)),),
            "dress_from": (row_check("malformed", lambda values: matches(values, DRESS_PATTERN)),),
        }
    )


_URI_PATTERN = re.compile(rf"[^\x00-\x1f\x7f\\]{{1,{MAX_URI_LETTERS}}}")
_ABSOLUTE_PATTERN = re.compile(r"(?s)/.*|[A-Za-z][A-Za-z0-9+.-]*:.*")


def _climbs_out(uri: str) -> bool:
    return posixpath.normpath(uri).split("/")[0] == ".."
