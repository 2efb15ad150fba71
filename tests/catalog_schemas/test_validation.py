"""The checks that all contracts share."""

import pandas as pd
import pyarrow as pa
import pytest

from catalog_schemas.images import CURRENT, IMAGES
from catalog_schemas.photos import PHOTO_INDEX, PHOTO_SHARD, QUARANTINE
from catalog_schemas.products import PRODUCTS
from catalog_schemas.runs import PLAN
from catalog_schemas.validation import (
    REJECTED_ROWS,
    SCHEMA_KEY,
    TableError,
    conform,
    fits,
    make_schema,
    not_null,
    parquet_bytes,
    read_parquet_bytes,
    rejected_frame,
    row_check,
    row_problems,
    row_schema,
)

NUMBERS = make_schema(
    "numbers", [pa.field("name", pa.string(), nullable=False), pa.field("value", pa.int32())]
)


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        (PRODUCTS, b"products/1"),
        (IMAGES, b"images/1"),
        (CURRENT, b"current/1"),
        (PLAN, b"plan/1"),
        (REJECTED_ROWS, b"rejected_rows/1"),
        (PHOTO_SHARD, b"photo_shard/1"),
        (PHOTO_INDEX, b"photo_index/1"),
        (QUARANTINE, b"quarantine/1"),
    ],
)
def test_every_schema_says_its_version_and_survives_a_file(schema: pa.Schema, name: bytes) -> None:
    assert schema.metadata[SCHEMA_KEY] == name
    data = parquet_bytes(schema.empty_table())
    assert read_parquet_bytes(data, schema, "a table").schema.equals(schema, check_metadata=True)


@pytest.mark.parametrize(
    ("found", "wanted", "fit"),
    [
        (pa.string_view(), pa.string(), True),
        (pa.dictionary(pa.int8(), pa.large_string()), pa.string(), True),
        (pa.dictionary(pa.int8(), pa.int32()), pa.string(), False),
        (pa.large_binary(), pa.binary(), True),
        (pa.string(), pa.binary(), False),
        (pa.uint8(), pa.int32(), True),
        (pa.bool_(), pa.int32(), False),
        (pa.float32(), pa.float64(), True),
        (pa.timestamp("ns", "Europe/Berlin"), pa.timestamp("us", "UTC"), True),
        (pa.timestamp("us"), pa.timestamp("us", "UTC"), False),
        (pa.large_list(pa.large_string()), pa.list_(pa.string()), True),
        (pa.list_(pa.int32()), pa.list_(pa.string()), False),
        (pa.map_(pa.string(), pa.int32()), pa.map_(pa.string(), pa.string()), False),
    ],
)
def test_which_types_can_be_read_as_which(found: pa.DataType, wanted: pa.DataType, fit: bool) -> None:
    assert fits(found, wanted) is fit


def test_conform_orders_casts_and_drops_columns() -> None:
    found = pa.table(
        {"extra": [1], "value": pa.array([2], pa.uint64()), "name": pa.array(["a"], pa.large_string())}
    )
    table = conform(found, NUMBERS, "numbers")
    assert table.schema.equals(NUMBERS, check_metadata=True)
    assert table.to_pylist() == [{"name": "a", "value": 2}]


def test_conform_refuses_null_where_the_contract_does() -> None:
    with pytest.raises(TableError, match="'name' has 1 null values"):
        conform(pa.table({"name": pa.array([None], pa.string()), "value": [1]}), NUMBERS, "numbers")


def test_conform_refuses_a_number_that_does_not_fit() -> None:
    with pytest.raises(TableError, match=r"'value'.*2147483648"):
        conform(pa.table({"name": ["a"], "value": [2**31]}), NUMBERS, "numbers")


def test_only_asked_columns_are_read() -> None:
    data = parquet_bytes(pa.table([["a"], pa.array([1], pa.int32())], schema=NUMBERS))
    assert read_parquet_bytes(data, NUMBERS, "numbers", ["value"]).to_pylist() == [{"value": 1}]


@pytest.mark.parametrize("cut", [0, 4, 100])
def test_a_damaged_object_is_named(cut: int) -> None:
    data = parquet_bytes(pa.table([["a"], pa.array([1], pa.int32())], schema=NUMBERS))
    with pytest.raises(TableError, match="the numbers: the Parquet object is damaged"):
        read_parquet_bytes(data[:cut], NUMBERS, "the numbers")


def test_the_first_failed_check_of_a_cell_is_its_reason() -> None:
    never = row_check("never", lambda values: values != values)
    schema = row_schema({"a": (not_null(), row_check("short", lambda values: values.str.len() > 1), never)})
    frame = pd.DataFrame({"a": ["x", None, "long"]}, index=[5, 7, 9])
    found = row_problems(schema, frame).sort_values("row")
    assert found.to_dict("list") == {
        "row": [5, 7, 9],
        "column": ["a", "a", "a"],
        "reason": ["short", "null", "never"],
    }


def test_a_check_that_breaks_is_a_bug_and_not_a_bad_row() -> None:
    import pandera.errors

    def broken(values: "pd.Series[str]") -> "pd.Series[bool]":
        raise ZeroDivisionError

    with pytest.raises(pandera.errors.SchemaErrors):
        row_problems(row_schema({"a": (row_check("broken", broken),)}), pd.DataFrame({"a": ["x"]}))


def test_rejected_rows_fit_their_contract() -> None:
    problems = pd.DataFrame({"row": [3, 4], "column": "sku", "reason": "malformed"})
    frame = rejected_frame(problems, ["x" * 200, float("nan")])
    table = conform(pa.Table.from_pandas(frame, preserve_index=False), REJECTED_ROWS, "rejected rows")
    assert table["sku"].to_pylist() == ["x" * 128, None]
    assert table["row"].to_pylist() == [3, 4]
