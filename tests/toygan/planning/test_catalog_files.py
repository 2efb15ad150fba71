"""Catalogs as shops have them go through the one validation, or are refused in one line."""

import csv
import io
import zipfile
from datetime import datetime
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.toygan.planning.files import FEED, read, write
from toygan.errors import CatalogError
from toygan.planning.catalog_check import look_at_catalog

TEXTS = {
    "utf-8": ("积木", "红色积木 2 x 4（适合三岁以上儿童）"),
    "utf-8-sig": ("積木", "紅色積木"),
    "utf-16": ("积木", "红色消防车，带梯子"),
    "utf-16-le": ("cars", "Fire engine"),
    "utf-16-be": ("cars", "Fire engine"),
    "gb18030": ("玩具车", "蓝色小汽车惯性玩具"),
    "big5": ("積木", "藍色小汽車適合三歲以上兒童"),
    "cp1252": ("Bälle", "Großer grüner Ball – für Kinder"),
    "cp1250": ("Łodzie", "Żółta łódź świąteczna"),
    "cp1251": ("Машины", "Красный автомобиль"),
    "iso2022_jp": ("ブロック", "赤いブロック、三歳から"),
    "iso2022_kr": ("블록", "빨간 블록 자동차"),
    "hz": ("积木", "红色消防车，带梯子"),
}


SHOPIFY = """\
Handle,Title,Body (HTML),Vendor,Product Category,Type,Tags,Published,Option1 Name,Option1 Value,\
Option2 Name,Option2 Value,Variant SKU,Variant Grams,Variant Price,Image Src,Image Position,Status
fire-engine,Fire Engine,"<p>With a <b>ladder</b> &amp; hose.
For children.</p>",Toyworks,Toys & Games > Toys,Toy Cars,"vehicle, red",TRUE,Color,Red,Size,S,FE-R,200,19.99,\
https://cdn.example.com/1.jpg,1,active
fire-engine,,,,,,,,,Blue,,S,FE-B,200,19.99,https://cdn.example.com/2.jpg,2,
fire-engine,,,,,,,,,,,,,,,https://cdn.example.com/3.jpg,3,
brick,Brick 2 x 4,,Toyworks,Toys & Games > Toys,,,TRUE,Title,Default Title,,,,10,0.50,,,active
"""


SHOPIFY_OF_TODAY = """\
Title,URL handle,Description,Vendor,Product category,Type,Tags,Published on online store,Status,SKU,Barcode,\
Option1 name,Option1 value,Price,Product image URL,Image position
Teddy,teddy,A teddy.,Toyworks,Toys & Games,Plush,,TRUE,Active,,,Color,Brown,12.00,https://cdn.example.com/t.jpg,1
,teddy,,,,,,,,,,,White,12.00,,
"""


MERCHANT = (
    "id\ttitle\tdescription\tavailability\tlink\timage link\tprice\tbrand\tgoogle product category\t"
    "product type\tcolor\tcondition\n"
    "A1\tToy Car\tA <i>small</i> car\tin_stock\thttps://shop.example.com/a1\thttps://shop.example.com/a1.jpg\t"
    "9.99 EUR\tToyworks\tToys & Games > Toys\tToys > Cars\tRed/Black\tnew\n"
)


ATOM = """\
<feed xmlns="http://www.w3.org/2005/Atom" xmlns:g="http://base.google.com/ns/1.0">
<entry><g:id>A1</g:id><title>Toy Car</title><g:product_type>Cars</g:product_type></entry></feed>
"""


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", TEXTS)
def test_encoding_and_delimiter_are_found_out(tmp_path: Path, encoding: str, delimiter: str) -> None:
    category, title = TEXTS[encoding]
    rows = [("sku", "category", "title"), ("1", category, title), ("2", category, f"{title} 2")]
    text = "".join(delimiter.join(row) + "\r\n" for row in rows)
    good, rejected = read(write(tmp_path / "catalog.parquet", text, encoding))
    assert rejected == []
    assert [row["title"] for row in good.values()] == [title, f"{title} 2"]
    assert {row["category"] for row in good.values()} == {category}


letters = st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="\ufffd")


cells = st.text(letters | st.sampled_from('\n\t",;|'), min_size=1, max_size=20)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=8), st.sampled_from(",;\t|"))
def test_any_text_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str
) -> None:
    path = tmp_path_factory.mktemp("csv") / "c.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["sku", "category", "title", "description"])
        writer.writerows([(str(i), "brick", f"t{title}", text) for i, (title, text) in enumerate(rows)])
    good, rejected = read(path)
    assert rejected == []
    assert [row["title"] for row in good.values()] == [f"t{title}".strip() for title, _ in rows]
    assert [row.get("description", "") for row in good.values()] == [text.strip() for _, text in rows]


def test_what_is_wrong_with_a_row_sets_only_that_row_aside(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    head = "sku,category,title,images_wanted,updated_at,attributes\n"
    rows = [
        'a,brick,积木很多很多积木,2,2026-11-01T12:00:00Z,"{""part"": ""3001""}"',
        "b,brick,Brick,two,,",
        "c,brick,Brick,,yesterday,",
        "d,brick,Brick,,,[1]",
        "e,brick,Brick,,,,7,8",
        "f,brick",
        "a,brick,Brick",
        "",
        "g,brick,Brick,99999999999,,",
    ]
    path.write_bytes((head + "\n".join(rows)).encode() + b"\nh,brick,\xff,,,\ni,brick,Brick")
    good, rejected = read(path)
    assert list(good) == [0, 9]
    assert good[0]["attributes"] == {"part": "3001"}
    assert (good[0]["images_wanted"], str(good[0]["updated_at"])) == (2, "2026-11-01 12:00:00+00:00")
    assert rejected == [
        (1, "b", "images_wanted", "malformed"),
        (2, "c", "updated_at", "malformed"),
        (3, "d", "attributes", "malformed"),
        (4, "e", "attributes", "too_many_cells"),
        (5, "f", "title", "null"),
        (6, "a", "sku", "duplicate"),
        (7, "g", "images_wanted", "out_of_range"),
        (8, "h", "title", "not_decodable"),
    ]


def test_a_workbook_is_read_by_its_content(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.create_sheet("Catalog")  # the first one is empty
    sheet.append(["SKU", "Category", "Title", "Images wanted", "Updated at", "attributes.part"])
    sheet.append([3001, "积木", "Brick, Red", 2, datetime(2026, 11, 1, 12), 4.5])
    sheet.append([None] * 6)
    sheet.append(["A-2", "car", "Car", 1.5, None, None])
    book.save(tmp_path / "book.xlsx")
    path = (tmp_path / "book.xlsx").rename(tmp_path / "book.csv")
    good, rejected = read(path)
    assert list(good) == [0]
    assert (good[0]["sku"], good[0]["images_wanted"], good[0]["attributes"]) == ("3001", 2, {"part": "4.5"})
    assert rejected == [(1, "A-2", "images_wanted", "malformed")]


def test_a_shopify_export_has_a_product_a_variant(tmp_path: Path) -> None:
    good, rejected = read(write(tmp_path / "products_export.csv", SHOPIFY))
    assert rejected == []
    assert list(good) == [0, 1, 3]  # row 2 is one more picture
    red, blue, brick = good.values()
    assert (red["sku"], red["title"], red["category"], red["colour"]) == (
        "FE-R", "Fire Engine", "Toy Cars", "Red",
    )  # fmt: skip
    assert red["description"] == "With a ladder & hose. For children."
    assert red["attributes"] == {
        **{"handle": "fire-engine", "vendor": "Toyworks", "tags": "vehicle, red"},
        **{"Color": "Red", "Size": "S"},
    }
    assert (blue["sku"], blue["title"], blue["colour"]) == ("FE-B", "Fire Engine", "Blue")
    assert (brick["sku"], brick["category"], brick.get("colour")) == ("brick", "Toys & Games > Toys", None)


def test_a_shopify_export_of_today_is_read_too(tmp_path: Path) -> None:
    good, rejected = read(write(tmp_path / "c.csv", SHOPIFY_OF_TODAY))
    assert rejected == []
    assert [(row["sku"], row["title"], row["colour"]) for row in good.values()] == [
        ("teddy-Brown", "Teddy", "Brown"),
        ("teddy-White", "Teddy", "White"),
    ]


def test_a_merchant_center_table_is_read(tmp_path: Path) -> None:
    (row,) = read(write(tmp_path / "feed.txt", MERCHANT))[0].values()
    assert (row["sku"], row["category"], row["colour"]) == ("A1", "Toys > Cars", "Red/Black")
    assert (row["description"], row["attributes"]) == ("A small car", {"brand": "Toyworks"})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_merchant_center_feed_is_read(tmp_path: Path, encoding: str) -> None:
    text = FEED.replace('version="1.0"?', f'version="1.0" encoding="{encoding.removesuffix("-sig")}"?', 1)
    good, rejected = read(write(tmp_path / "feed.csv", text, encoding))
    assert rejected == []
    assert [(row["sku"], row["title"], row["category"]) for row in good.values()] == [
        ("A1", "Toy Car", "Toys > Cars"),
        ("货号2", "小熊", "1253"),
    ]
    assert good[0]["description"] == "A small car"


def test_an_atom_feed_is_read(tmp_path: Path) -> None:
    assert read(write(tmp_path / "feed.xml", ATOM))[0][0]["category"] == "Cars"


ENTRY = (
    "<g:id>A1</g:id>",
    "<id>https://shop.example.com/a1</id>",
    "<g:title>Toy Car</g:title>",
    "<title>Toy Car - My Shop</title>",
    "<g:product_type>Cars</g:product_type>",
    "<g:description> </g:description>",
    "<description>A small car</description>",
)


@settings(max_examples=15, deadline=None)
@given(st.permutations(ENTRY), st.sampled_from(["g", "G-1"]))
def test_googles_elements_take_precedence_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, elements: list[str], prefix: str
) -> None:
    entry = "".join(elements).replace("g:", f"{prefix}:")
    feed = (
        f'<feed xmlns="http://www.w3.org/2005/Atom" xmlns:{prefix}="http://base.google.com/ns/1.0">'
        f"<entry>{entry}</entry></feed>"
    )
    good, rejected = read(write(tmp_path_factory.mktemp("feed") / "feed.xml", feed))
    assert rejected == []
    assert (good[0]["sku"], good[0]["title"]) == ("A1", "Toy Car")
    assert (good[0]["category"], good[0]["description"]) == ("Cars", "A small car")


def a_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "x")
    return file.getvalue()


def a_broken_workbook() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "no rows"),
        (b"sku,category\n1,brick\n", r"'title' is missing.*--map title=COLUMN.*found: sku, category"),
        (b'[{"sku": 1}]', "looks like JSON"),
        (a_zip(), "not an Excel workbook"),
        (a_zip()[:50], "damaged"),
        (a_broken_workbook(), "damaged"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel's old format"),
        (bytes(range(256)), "not a catalog"),
        (b"<html><body>Log in</body></html>", "no <item> or <entry>"),
        (FEED.encode()[:300], "the XML is damaged"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><rss><item>&a;</item></rss>', "declares entities"),
        (b'<?xml version="1.0" encoding="klingon"?><rss><item/></rss>', "is 'klingon', which is unknown"),
        (b'<?xml version="1.0" encoding="zlib"?><rss><item/></rss>', "is 'zlib', which is unknown"),
        (b"sku,category,title\n" + b'1,brick,"' + b"x" * 5_000_000, "line 2"),
    ],
    # Named here: the content of an archive holds the time, and pytest's workers must agree on names.
    ids=[
        *(
            "empty",
            "blank",
            "a column is missing",
            "JSON",
            "an archive",
            "half an archive",
            "half a workbook",
        ),
        *("old Excel", "any bytes", "a web page", "half a feed", "entities"),
        *("an unknown encoding", "no encoding", "a huge line"),
    ],
)
def test_what_is_no_catalog_is_refused_in_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "catalog.csv"
    path.write_bytes(content)
    with pytest.raises(CatalogError, match=said) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "attributes",
    ['{"x": "\\ud800"}', '{"\\udfff": 1}', '{"x": ' + "[" * 100_000, "[1]"],
    ids=["half a pair", "half a pair for a name", "deep", "a list"],
)
def test_attributes_that_cannot_be_read_set_their_row_aside_alone(tmp_path: Path, attributes: str) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerows(
        [("sku", "category", "title", "attributes"), ("1", "car", "Car", attributes), ("2", "car", "Car", "")]
    )
    good, rejected = read(write(tmp_path / "c.csv", file.getvalue()))
    assert [row["sku"] for row in good.values()] == ["2"]
    assert rejected == [(0, "1", "attributes", "malformed")]


def test_a_chinese_catalog_loses_no_row_to_its_language(tmp_path: Path) -> None:
    rows = [f"货号{i:04d},毛绒玩具 > 小熊,红色小熊第{i}款（适合3岁以上）,红色\n" for i in range(1000)]
    path = write(tmp_path / "c.csv", "sku,category,title,colour\n" + "".join(rows), "gb18030")
    found = look_at_catalog(str(path), {})
    assert (found.good, found.set_aside) == (1000, 0)
