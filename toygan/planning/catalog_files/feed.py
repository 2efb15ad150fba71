"""Reads a Merchant Center feed in XML: RSS 2.0 or Atom, with attributes in Google's namespace.

If an item also has an element of the same name outside that namespace, Google's is read.
"""

import codecs
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from catalog_schemas.validation import TableError
from toygan.planning.catalog_files.encoding import find_seven_bits
from toygan.planning.catalog_files.rows import UNDECODABLE, RawRow, RawTable

_DECLARATION = re.compile(rb"""\s*<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_LONGEST_DECLARATION: Final = 256  # bytes
# Encodings in which a sequence of ASCII characters changes the meaning of the next bytes.
_SHIFTED: Final = ("iso2022", "hz", "utf-7")
_ITEMS: Final = frozenset({"item", "entry"})
_GOOGLE: Final = "{http://base.google.com/ns/1.0}"
# The elements of an item that are read.
FEED_COLUMNS: Final = (
    "id",
    "title",
    "description",
    "product_type",
    "google_product_category",
    "color",
    "brand",
    "material",
    "pattern",
    "size",
    "age_group",
    "gender",
    "item_group_id",
    "gtin",
    "condition",
    "availability",
    "price",
    "link",
    "image_link",
    "content_language",
)


@contextmanager
def open_feed(path: Path) -> Iterator[RawTable]:
    """Opens a feed. Yields a table that is read item by item.

    Raises TableError for XML without items, for damaged XML, and for XML that declares entities.
    """
    from defusedxml import DefusedXmlException

    try:
        items = _items(path)
        first = next(items, None)
        if first is None:
            raise TableError(
                f"{path}: the XML has no <item> or <entry>; a Merchant Center feed has one per product"
            )
        yield RawTable(format="Merchant Center feed, XML", header=FEED_COLUMNS, rows=_raw_rows(first, items))
    except ParseError as error:
        raise TableError(f"{path}: the XML is damaged ({error}); write it again") from None
    except DefusedXmlException:
        raise TableError(
            f"{path}: the XML declares entities or a DTD, which a feed must not have; remove them"
        ) from None


def _items(path: Path) -> Iterator[dict[str, str]]:
    from defusedxml.ElementTree import DefusedXMLParser, iterparse

    inside: list[Element] = []
    with path.open("rb") as file:
        text, encoding = _in_utf8(path, file)
        parser = DefusedXMLParser(target=TreeBuilder(), encoding=encoding, forbid_dtd=True)
        for event, element in iterparse(text, events=("start", "end"), parser=parser):
            if event == "start":
                inside.append(element)
                continue
            inside.pop()
            if _name(element) in _ITEMS:
                yield _texts(element)
                element.clear()
                if inside:
                    inside[-1].remove(element)  # without this, all items would stay in memory


def _in_utf8(path: Path, file: BinaryIO) -> tuple[Any, str | None]:
    """Returns the XML to read, and its encoding if that is not the one that the XML declares.

    The parser knows none of the encodings of Chinese, Japanese and Korean other than Unicode. Text in another
    encoding than it declares is decoded as far as possible.
    """
    declared = _DECLARATION.match(file.read(_LONGEST_DECLARATION))
    file.seek(0)
    name = find_seven_bits(path) if declared is None else declared[1].decode()
    if name is None:
        return file, None
    try:
        known = codecs.lookup(name).name
        has_single_bytes = len(bytes(range(256)).decode(name, "replace")) == 256
    except (LookupError, UnicodeError):
        raise TableError(
            f"{path}: the XML says that its encoding is {name!r}, which is unknown; save it as UTF-8"
        ) from None
    if known.startswith("utf-16") or (has_single_bytes and not known.startswith(_SHIFTED)):
        return file, None
    return codecs.EncodedFile(file, "utf-8", name, errors="replace"), "utf-8"


def _texts(item: Element) -> dict[str, str]:
    found: dict[str, str] = {}
    # Atom needs an <id> that is a URI, beside Google's <g:id>, which is the sku.
    for child in sorted(item, key=lambda child: not str(child.tag).startswith(_GOOGLE)):
        text = " ".join((child.text or "").split())
        if text:
            found.setdefault(_name(child), text)
    return found


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2].lower()


def _raw_rows(first: dict[str, str], others: Iterator[dict[str, str]]) -> Iterator[RawRow]:
    def rows() -> Iterator[dict[str, str]]:
        yield first
        yield from others

    for number, item in enumerate(rows()):
        broken = next((name for name in FEED_COLUMNS if UNDECODABLE in item.get(name, "")), None)
        problem = None if broken is None else (broken, "not_decodable")
        yield RawRow(number, [item.get(name, "") for name in FEED_COLUMNS], problem)
