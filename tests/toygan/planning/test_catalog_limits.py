"""Catalogs that would not fit the memory are refused in one line."""

import zipfile
from pathlib import Path

import openpyxl
import pytest

from tests.toygan.planning.files import read
from toygan.errors import CatalogError
from toygan.planning import catalog
from toygan.planning.catalog_check import look_at_catalog
from toygan.planning.catalog_files import excel
from toygan.planning.catalog_files.excel import open_workbook
from toygan.storage.memory import named_memory_store


def test_a_sheet_that_is_formatted_as_a_whole_is_read_by_its_cells(tmp_path: Path) -> None:
    """Its 16,384 columns would make each row a thousand times as long."""
    plain, wide = tmp_path / "plain.xlsx", tmp_path / "wide.xlsx"
    book = openpyxl.Workbook()
    for row in (("sku", "category", "title"), ("1", "car", "Car"), ("2", "car", "Car")):
        book.active.append(row)
    book.save(plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(wide, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(b'ref="A1:C3"', b'ref="A1:XFD1048576"'))
    with open_workbook(wide) as table:
        assert [len(row.cells) for row in table.rows] == [3, 3]
        assert table.header == ["sku", "category", "title"]


@pytest.mark.parametrize("part", ["xl/worksheets/sheet1.xml", "xl/sharedStrings.xml", "xl/styles.xml"])
def test_a_workbook_that_would_fill_the_memory_is_refused(tmp_path: Path, part: str) -> None:
    with zipfile.ZipFile(tmp_path / "book.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
        archive.writestr(part, b" " * 40_000_000)
    with pytest.raises(CatalogError, match=r"unpacks from .* to 4.* save it as CSV"):
        read(tmp_path / "book.xlsx")


@pytest.mark.parametrize("limit", ["MOST_BYTES", "MOST_TEXT_BYTES", "MOST_TREE_BYTES"])
def test_each_part_of_a_workbook_has_its_limit(
    tmp_path: Path, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = openpyxl.Workbook()
    book.active.append(("sku", "category", "title"))
    book.active.append(("1", "car", "Car"))
    book.save(tmp_path / "book.xlsx")
    with zipfile.ZipFile(tmp_path / "book.xlsx", "a") as archive:
        archive.writestr("xl/sharedStrings.xml", "<sst/>" + " " * 100)
    assert len(read(tmp_path / "book.xlsx")[0]) == 1
    monkeypatch.setattr(excel, limit, 10)
    with pytest.raises(CatalogError, match="too much for the memory"):
        read(tmp_path / "book.xlsx")


def test_a_catalog_of_a_store_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    store = named_memory_store("large-catalogs")
    store.put("c.csv", b"sku,category,title\n1,car,Car\n")
    assert look_at_catalog("memory://large-catalogs/c.csv", {}).good == 1
    monkeypatch.setattr(catalog, "MAX_STORED_BYTES", 20)
    with pytest.raises(CatalogError, match=r"has 29 bytes; at most 20 can be read.*local copy"):
        look_at_catalog("memory://large-catalogs/c.csv", {})
