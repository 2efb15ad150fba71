"""`--map` reads the columns of a shop's own catalog as those of the contract."""

from pathlib import Path

import pytest

from tests.catalog_schemas.tables import product, write_catalog
from tests.toygan.planning.files import read, write
from toygan.errors import BadInput
from toygan.planning.catalog import open_catalog
from toygan.planning.catalog_files.convert import parse_mapping


def test_columns_can_be_mapped(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", "货号,分类,名称,材质,title\nA-1,积木,红色积木,塑料,x\n", "gb18030")
    good, _ = read(path, sku="货号", category="分类", title="名称", **{"attributes.material": "材质"})
    assert good[0]["title"] == "红色积木"
    assert good[0]["attributes"] == {"material": "塑料"}


def test_another_mapping_is_another_catalog(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", "sku,category,title,name\n1,brick,a,b\n")
    digests = set()
    for columns in ({}, {"title": "name"}, {"title": "sku"}):
        with open_catalog(str(path), columns) as catalog:
            digests.add(catalog.sha256)
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"titel": "name"}, "reads no column 'titel'"),
        ({"title": "none"}, "'none', mapped to title, is not a column of the file"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(tmp_path: Path, columns: dict[str, str], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read(write(tmp_path / "c.csv", "sku,category,title,name\n1,brick,a,b\n"), **columns)


def test_parquet_takes_no_mapping(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="leave out --map"):
        read(write_catalog(tmp_path / "c.csv", [product()]), title="name")


@pytest.mark.parametrize("stated", ["title", "=x", "title=", " = "])
def test_a_malformed_mapping_is_refused(stated: str) -> None:
    with pytest.raises(BadInput, match="column=theirs"):
        parse_mapping([stated])


@pytest.mark.parametrize("handle", ["handle", "Handle", "URL handle"])
def test_a_catalog_with_the_contracts_names_may_have_a_handle_too(tmp_path: Path, handle: str) -> None:
    text = f"{handle},sku,category,title,colour_hex\nfire-engine,A-1,car,Red car,#C91A09\n"
    good, rejected = read(write(tmp_path / "c.csv", text))
    assert rejected == []
    assert {name: good[0][name] for name in ("sku", "category", "title", "colour_hex")} == {
        "sku": "A-1",
        "category": "car",
        "title": "Red car",
        "colour_hex": "#C91A09",
    }


def test_a_shopify_export_stays_one_if_a_column_of_it_is_mapped(tmp_path: Path) -> None:
    text = "Handle,SKU,Title,Kind,Option1 Name,Option1 Value\ncar,1,Car,cars,Color,Red\ncar,2,,cars,,Blue\n"
    good, _ = read(write(tmp_path / "c.csv", text), category="Kind")
    assert [(row["sku"], row["title"], row["colour"]) for row in good.values()] == [
        ("1", "Car", "Red"),
        ("2", "Car", "Blue"),
    ]
