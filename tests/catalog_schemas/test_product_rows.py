"""Rows of a catalog: cells, skus, languages, fingerprints."""

import tracemalloc
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog_schemas.products import (
    BATCH_ROWS,
    LANGUAGE_PATTERN,
    SourceRows,
    row_fingerprint,
    stream_products,
)
from catalog_schemas.validation import is_category, is_sku
from tests.catalog_schemas.catalogs import check
from tests.catalog_schemas.tables import catalog_table, product, write_catalog


def rejected(path: Path, batch_rows: int = BATCH_ROWS) -> list[tuple[Any, ...]]:
    frame = check(path, batch_rows).rejected
    return list(frame.astype(object).where(frame.notna(), None).itertuples(index=False, name=None))


# bad rows


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("sku", None, "null"),
        ("sku", "", "malformed"),
        ("sku", "../../etc/passwd", "malformed"),
        ("sku", "a/b", "malformed"),
        ("sku", "a\\b", "malformed"),
        ("sku", "a\x00b", "malformed"),
        ("sku", "sku\n", "malformed"),
        ("sku", " a", "malformed"),
        ("sku", "a\u2028b", "malformed"),
        ("sku", "x" * 129, "malformed"),
        ("category", None, "null"),
        ("category", "积木" * 65, "malformed"),
        ("category", "brick ", "malformed"),
        ("category", "a\tb", "malformed"),
        ("title", None, "null"),
        ("title", " \t\u3000", "blank"),
        ("language", "en_US", "malformed"),
        ("language", "", "malformed"),
        ("colour_hex", "red", "malformed"),
        ("colour_hex", "#12345", "malformed"),
        ("colour_hex", "#12345G", "malformed"),
        ("colour_hex", "#123456\n", "malformed"),
        ("finish", "matte", "unknown"),
        ("images_wanted", 0, "out_of_range"),
        ("images_wanted", -1, "out_of_range"),
        ("images_wanted", 65, "out_of_range"),
        ("sketch_uri", "/etc/passwd", "not_relative"),
        ("sketch_uri", "file:///etc/passwd", "not_relative"),
        ("layout_uri", "https://example.org/x.png", "not_relative"),
        ("layout_uri", "../x.png", "leaves_folder"),
        ("layout_uri", "a/../../x.png", "leaves_folder"),
        ("layout_uri", "a\\..\\x.png", "malformed"),
        ("layout_uri", "", "malformed"),
        ("layout_uri", "\\\nx" + "y" * 1001, "malformed"),
    ],
)
def test_a_bad_cell_sets_its_row_aside(tmp_path: Path, column: str, value: Any, reason: str) -> None:
    rows = [product(sku="before"), product(**{column: value}), product(sku="after")]
    path = write_catalog(tmp_path / "catalog.parquet", rows)
    sku = (value and value[:128]) if column == "sku" else "brick-3001-4"
    assert rejected(path) == [(1, sku, column, reason)]
    good = check(path).good
    assert good["sku"].to_list() == ["before", "after"]
    assert good.index.to_list() == [0, 2]


def test_paths_that_stay_in_the_folder_pass(tmp_path: Path) -> None:
    uris = ["a.png", "./a.png", "a/../b.png", "conditions/..x.png", "Skizze ü.png"]
    rows = [product(sku=f"s{i}", sketch_uri=uri) for i, uri in enumerate(uris)]
    assert rejected(write_catalog(tmp_path / "catalog.parquet", rows)) == []


def test_a_row_with_two_bad_cells_is_there_twice(tmp_path: Path) -> None:
    path = write_catalog(tmp_path / "catalog.parquet", [product(), product(sku="b", title=None, finish="x")])
    assert sorted(rejected(path)) == [(1, "b", "finish", "unknown"), (1, "b", "title", "null")]


@pytest.mark.parametrize("images_wanted", [2**32 + 1, -(2**31), 2**62, 2**63 + 1])
def test_a_number_too_large_for_int32_is_out_of_range(tmp_path: Path, images_wanted: int) -> None:
    path = tmp_path / "catalog.parquet"
    wanted = pa.array([images_wanted, 1, None], pa.uint64() if images_wanted > 2**63 else pa.int64())
    rows = [product(sku=sku) for sku in "abc"]
    pq.write_table(catalog_table(rows).append_column("images_wanted", wanted), path)
    assert rejected(path) == [(0, "a", "images_wanted", "out_of_range")]


def test_text_that_is_not_utf8_is_set_aside(tmp_path: Path) -> None:
    titles = pa.array([b"good", b"bad \xff", "gut ü".encode()])
    broken = pa.Array.from_buffers(pa.string(), 3, titles.buffers())
    skus = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"b", b"\xfe"]).buffers())
    table = pa.table({"sku": skus, "category": ["brick"] * 3, "title": broken})
    path = tmp_path / "catalog.parquet"
    pq.write_table(table, path)
    assert rejected(path) == [(1, "b", "title", "not_utf8"), (2, None, "sku", "not_utf8")]
    assert check(path).good["title"].to_list() == ["good"]


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 100])
def test_of_equal_skus_the_first_good_row_stays(tmp_path: Path, batch_rows: int) -> None:
    rows = [
        product(sku="a", title=None),
        product(sku="a", title="first good"),
        product(sku="b"),
        product(sku="a", title="late"),
        product(sku="b"),
        product(sku="A"),
        product(sku="a", finish="matte"),
    ]
    path = write_catalog(tmp_path / "catalog.parquet", rows)
    assert rejected(path, batch_rows) == [
        (0, "a", "title", "null"),
        (3, "a", "sku", "duplicate"),
        (4, "b", "sku", "duplicate"),
        (6, "a", "finish", "unknown"),
    ]
    assert check(path, batch_rows).good["title"].to_list()[0] == "first good"


def test_skus_whose_hashes_collide_are_not_duplicates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_catalog(
        tmp_path / "catalog.parquet", [product(sku=sku) for sku in ["a", "b", "a", "c", "b"]]
    )
    monkeypatch.setattr(
        "catalog_schemas.products.hash_strings", lambda skus: np.zeros(len(skus), dtype=np.uint64)
    )
    assert [row[:2] for row in rejected(path)] == [(2, "a"), (4, "b")]


@pytest.mark.slow
def test_uniqueness_costs_at_most_64_bytes_a_row(tmp_path: Path) -> None:
    # every sku is there twice and has the greatest length: the worst case for memory
    rows = 40_000
    skus = [f"{i % (rows // 2):0128d}" for i in range(rows)]
    path = tmp_path / "catalog.parquet"
    pq.write_table(pa.table({"sku": skus, "category": ["brick"] * rows, "title": ["t"] * rows}), path)
    next(stream_products(path, batch_rows=100))  # libraries that are loaded once and stay
    stream = stream_products(path, batch_rows=500)
    tracemalloc.start()
    peak, duplicates = 0, 0
    base: int | None = None
    for checked in stream:
        duplicates += len(checked.rejected)
        del checked
        held, _ = tracemalloc.get_traced_memory()
        base = held if base is None else base
        peak = max(peak, held)
    tracemalloc.stop()
    assert duplicates == rows // 2
    assert base is not None
    assert peak - base + 8 * rows <= 64 * rows + 100_000


# properties

texts = st.text(max_size=20)


@given(texts)
def test_a_sku_is_a_category_without_slashes(text: str) -> None:
    assert is_sku(text) == (is_category(text) and not {"/", "\\"} & set(text))


def test_categories_and_skus_of_any_language_pass(tmp_path: Path) -> None:
    names = ["积木", "Toys > Building Toys", "Игрушки", "ألعاب", "おもちゃ", "Spielzeug (groß)", "a" * 128]
    rows = [product(sku=name, category=name) for name in names]
    rows.append(product(sku="slash", category="Toys/Cars"))
    path = write_catalog(tmp_path / "catalog.parquet", rows)
    assert rejected(path) == []
    assert check(path).good["category"].to_list() == [*names, "Toys/Cars"]


def test_a_column_that_the_contract_does_not_have_passes(tmp_path: Path) -> None:
    table = catalog_table([product()]).append_column("reference_photo_uri", pa.array(["../x"]))
    pq.write_table(table, tmp_path / "catalog.parquet")
    assert rejected(tmp_path / "catalog.parquet") == []


def test_rows_of_another_format_keep_numbers_and_problems(tmp_path: Path) -> None:
    path = write_catalog(tmp_path / "c.parquet", [product(sku=sku) for sku in "abcd"])
    source = SourceRows(numbers=array("q", [0, 2, 5, 9]), problems={2: ("title", "not_decodable")})
    parts = list(stream_products(path, source=source, batch_rows=3))
    assert [row for part in parts for row in part.good.index] == [0, 2, 9]
    (problem,) = parts[0].rejected.itertuples(index=False, name=None)
    assert problem == (5, "c", "title", "not_decodable")


@pytest.mark.parametrize(
    "tag", ["en", "zh", "zh-Hans", "de-CH-1996", "sl-rozaj-biske", "en-US-u-ca-gregory-x-a", "x-a"]
)
def test_language_tags_of_the_standard_match(tag: str) -> None:
    assert LANGUAGE_PATTERN.fullmatch(tag)


@pytest.mark.parametrize("tag", ["e", "englishlike", "en--US", "en-", "-en", "de-a", "en-x", "中文"])
def test_what_is_no_language_tag_does_not_match(tag: str) -> None:
    assert not LANGUAGE_PATTERN.fullmatch(tag)


products = st.fixed_dictionaries(
    {
        "category": texts.filter(is_category),
        "title": texts,
        "colour_hex": st.from_regex(r"#[0-9A-Fa-f]{6}", fullmatch=True),
    },
    optional={
        "description": st.none() | texts,
        "language": st.sampled_from(["en", "zh", None]),
        "colour": st.none() | texts,
        "finish": st.sampled_from(["solid", "chrome", None]),
        "attributes": st.none() | st.dictionaries(texts, st.none() | texts, max_size=4),
    },
)


SHA = "0" * 64


@given(products, st.integers(1, 64), texts)
def test_the_fingerprint_ignores_what_no_picture_depends_on(
    row: dict[str, Any], wanted: int, sku: str
) -> None:
    attributes = row.get("attributes")
    same = {
        **row,
        "sku": sku,
        "images_wanted": wanted,
        "updated_at": pd.Timestamp("2026-11-01", tz="UTC"),
        "colour_hex": row["colour_hex"].swapcase(),
        "attributes": attributes and dict(reversed(attributes.items())),
        "language": row.get("language") or "en",
        "colour": row.get("colour", float("nan")),
    }
    assert row_fingerprint(same, {}) == row_fingerprint(row, {})


@given(
    products,
    st.sampled_from(
        ["category", "title", "description", "language", "colour", "colour_hex", "finish", "attributes"]
    ),
)
def test_the_fingerprint_depends_on_every_other_column(row: dict[str, Any], column: str) -> None:
    value = {"new": "value"} if column == "attributes" else f"{row.get(column)}, changed"
    assert row_fingerprint({**row, column: value}, {}) != row_fingerprint(row, {})


@given(products)
def test_the_fingerprint_depends_on_the_condition_files(row: dict[str, Any]) -> None:
    hashes = [{}, {"sketch": SHA}, {"layout": SHA}, {"sketch": "1" * 64}, {"sketch": SHA, "layout": SHA}]
    assert len({row_fingerprint(row, each) for each in hashes}) == len(hashes)


def test_the_fingerprint_is_that_of_the_canonical_json() -> None:
    from hashlib import sha256

    canonical = (
        '{"attributes":{"a":"ü","b":null},"category":"brick","colour":null,"colour_hex":"#B4000F",'
        '"condition_sha256":{"sketch":"' + SHA + '"},"description":"say \\"brick\\"\\n","finish":"solid",'
        '"language":"en","title":"砖"}'
    )
    row = {
        "category": "brick",
        "title": "砖",
        "description": 'say "brick"\n',
        "colour_hex": "#b4000f",
        "finish": "solid",
        "attributes": {"b": None, "a": "ü"},
    }
    assert row_fingerprint(row, {"sketch": SHA}) == sha256(canonical.encode()).hexdigest()
