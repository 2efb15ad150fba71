"""Feeds and tables in the encodings of shops; what cannot be decoded is set aside or refused."""

from pathlib import Path

import pytest

from tests.toygan.planning.files import FEED, read, write
from toygan.errors import CatalogError

ENCODINGS = ["utf-8", "utf-16", "utf-7", "gb18030", "GBK", "Shift_JIS", "big5", "cp1251", "ISO-2022-JP", "HZ"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_feed_is_read_in_the_encoding_that_it_names(tmp_path: Path, encoding: str) -> None:
    title = "Машина" if encoding == "cp1251" else "小熊"
    text = f'<?xml version="1.0" encoding="{encoding}"?>\n' + FEED.partition("\n")[2]
    text = text.replace("小熊", title).replace("货号2", "2")
    good, rejected = read(write(tmp_path / "feed.xml", text, encoding))
    assert ([row["title"] for row in good.values()], rejected) == (["Toy Car", title], [])


def test_a_feed_in_hz_is_read_without_a_declaration(tmp_path: Path) -> None:
    text = FEED.partition("\n")[2].replace("货号2", "2")
    good, rejected = read(write(tmp_path / "feed.xml", text, "hz"))
    assert ([row["title"] for row in good.values()], rejected) == (["Toy Car", "小熊"], [])


@pytest.mark.parametrize("title", ["~{ or ~}", "A ~{b~} c ~ d", "5 ~~ 7", "$B%V%m"])
def test_ascii_that_only_looks_like_another_encoding_stays(tmp_path: Path, title: str) -> None:
    good, _ = read(write(tmp_path / "c.csv", f"sku,category,title\n1,car,{title}\n", "ascii"))
    assert [row["title"] for row in good.values()] == [title]


def test_items_that_are_not_in_the_feeds_encoding_are_set_aside(tmp_path: Path) -> None:
    text = '<?xml version="1.0" encoding="gb18030"?>\n' + FEED.partition("\n")[2]
    path = tmp_path / "feed.xml"
    path.write_bytes(text.encode("gb18030").replace("小熊".encode("gb18030"), b"\xff\xff"))
    good, rejected = read(path)
    assert [row["title"] for row in good.values()] == ["Toy Car"]
    assert [row[2:] for row in rejected] == [("title", "not_decodable")]


@pytest.mark.parametrize("encoding", ["idna", "punycode", "undefined", "rot13", "unicode_escape"])
def test_a_feed_in_what_is_no_encoding_of_texts_is_refused(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "feed.xml"
    path.write_bytes(f'<?xml version="1.0" encoding="{encoding}"?>\n'.encode() + b"<rss>\xff</rss>")
    with pytest.raises(CatalogError, match=r"unknown|damaged|no <item>"):
        read(path)
