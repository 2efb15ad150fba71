"""Reading a catalog: bad tables stop, bad rows are set aside with a reason."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog_schemas.products import (
    PRODUCTS,
)
from catalog_schemas.validation import TableError
from tests.catalog_schemas.catalogs import check
from tests.catalog_schemas.tables import catalog_table, product, write_catalog

# bad tables


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"none\.parquet: there is no such file"):
        check(tmp_path / "none.parquet")


def test_a_folder_is_no_catalog(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="is a folder"):
        check(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"sku,category\n1,brick\n", "not a Parquet file"),
        (b"PAR1", "truncated at 4 bytes"),
    ],
)
def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "catalog.parquet"
    path.write_bytes(content)
    with pytest.raises(TableError, match=said):
        check(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_truncated_file_is_called_so(tmp_path: Path, share: float) -> None:
    path = write_catalog(tmp_path / "catalog.parquet", [product(sku=f"s{i}") for i in range(500)])
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(TableError, match="truncated"):
        check(path)


def test_a_hole_in_the_data_is_reported_as_damage(tmp_path: Path) -> None:
    path = write_catalog(
        tmp_path / "catalog.parquet", [product(sku=f"s{i}") for i in range(500)], compression="zstd"
    )
    content = bytearray(path.read_bytes())
    content[20:2000] = bytes(1980)
    path.write_bytes(content)
    with pytest.raises(TableError, match="damaged"):
        check(path)


@pytest.mark.parametrize("column", ["sku", "category", "title"])
def test_a_missing_required_column_is_named_with_its_type(tmp_path: Path, column: str) -> None:
    path = tmp_path / "catalog.parquet"
    pq.write_table(catalog_table([product()]).drop_columns([column]), path)
    with pytest.raises(TableError, match=rf"required column '{column}' is missing; add it as string"):
        check(path)


@pytest.mark.parametrize(
    ("column", "values", "found", "wanted"),
    [
        ("sku", pa.array([17]), "int64", "string"),
        ("title", pa.array([b"x"]), "binary", "string"),
        ("category", pa.array([3.5]), "double", "string"),
        ("title", pa.nulls(1), "null", "string"),
        ("images_wanted", pa.array([1.0]), "double", "int32"),
        ("attributes", pa.array([{"material": "ABS"}]), "struct<material: string>", "map<string,string>"),
        ("updated_at", pa.array(["2026-11-01"]), "string", "timestamp[us, tz=UTC]"),
    ],
)
def test_a_wrong_type_names_column_found_and_wanted(
    tmp_path: Path, column: str, values: pa.Array, found: str, wanted: str
) -> None:
    table = catalog_table([product()])
    if column in table.column_names:
        table = table.drop_columns([column])
    path = tmp_path / "catalog.parquet"
    pq.write_table(table.append_column(column, values), path)
    said = rf"column '{column}' has the type {re.escape(found)}.*it must be {re.escape(wanted)}; cast"
    with pytest.raises(TableError, match=said):
        check(path)


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalog.parquet"
    table = catalog_table([product()])
    pq.write_table(table.append_column("sku", pa.array(["other"])), path)
    with pytest.raises(TableError, match="'sku' is there 2 times"):
        check(path)


def test_a_catalog_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalog.parquet"
    pq.write_table(catalog_table([product()]).replace_schema_metadata({"toygan_schema": "products/2"}), path)
    with pytest.raises(TableError, match="products/2; it must be products/1"):
        check(path)


# good tables


def test_good_rows_have_the_contract_s_columns_and_defaults(tmp_path: Path) -> None:
    row = {"sku": "a", "category": "brick", "title": "砖", "colour_hex": "#b4000f"}
    good = check(write_catalog(tmp_path / "catalog.parquet", [row])).good
    assert list(good.columns) == PRODUCTS.names
    found = good.iloc[0]
    assert (found["sku"], found["title"], found["language"], found["colour_hex"]) == (
        "a",
        "砖",
        "en",
        "#B4000F",
    )
    assert found.drop(["sku", "category", "title", "language", "colour_hex"]).isna().all()


def test_attributes_become_dictionaries(tmp_path: Path) -> None:
    attributes = [{"part": "3001", "empty": None}, None, {}, {"a": "1", "b": "2"}]
    rows = [product(sku=f"s{i}", attributes=value) for i, value in enumerate(attributes)]
    rows.insert(1, product(sku="../hostile", attributes={"not": "here"}))
    good = check(write_catalog(tmp_path / "catalog.parquet", rows), batch_rows=3).good
    assert good["attributes"].to_list() == attributes


def test_all_kinds_of_strings_are_strings_and_extra_columns_pass(tmp_path: Path) -> None:
    table = catalog_table([product(), product(sku="b", title="积木")])
    large_map = pa.map_(pa.large_string(), pa.large_string())
    table = (
        table.set_column(0, "sku", table["sku"].cast(pa.large_string()))
        .set_column(1, "category", table["category"].dictionary_encode())
        .set_column(2, "title", table["title"].cast(pa.large_string()).dictionary_encode())
        .set_column(8, "attributes", table["attributes"].cast(large_map))
        .append_column("finish_code", pa.array([1, 2]))
        .append_column("images_wanted", pa.array([2, 64], pa.int64()))
        .append_column("layout_uri", pa.nulls(2))
        .append_column("updated_at", pa.array([1_000_000_001, 2], pa.timestamp("ns", "UTC")))
    )
    path = tmp_path / "catalog.parquet"
    pq.write_table(table, path)
    checked = check(path)
    assert checked.rejected.empty
    assert checked.good["title"].to_list() == ["Brick 2 x 4, Red", "积木"]
    assert checked.good["category"].to_list() == ["brick", "brick"]
    assert checked.good["images_wanted"].to_list() == [2, 64]
    assert checked.good["attributes"].iloc[0] == {"material": "ABS", "part": "3001"}


def test_the_real_catalog_is_good(toybricks: Path) -> None:
    checked = check(toybricks / "catalog.parquet")
    assert checked.rejected.empty
    assert len(checked.good) == pq.read_metadata(toybricks / "catalog.parquet").num_rows
