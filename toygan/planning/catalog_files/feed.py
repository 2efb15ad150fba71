"""Reads a Merchant Center feed in XML: RSS 2.0 or Atom, with attributes in Google's namespace."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, ParseError

from catalog_schemas.validation import TableError
from toygan.planning.catalog_files.rows import RawRow, RawTable

_ITEMS: Final = frozenset({"item", "entry"})
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
        raise TableError(f"{path}: the XML declares entities or a DTD, which a feed has none of") from None


def _items(path: Path) -> Iterator[dict[str, str]]:
    from defusedxml.ElementTree import iterparse

    inside: list[Element] = []
    for event, element in iterparse(path, events=("start", "end"), forbid_dtd=True):
        if event == "start":
            inside.append(element)
            continue
        inside.pop()
        if _name(element) in _ITEMS:
            yield _texts(element)
            element.clear()
            if inside:
                inside[-1].remove(element)  # otherwise all items would stay in memory


def _texts(item: Element) -> dict[str, str]:
    found: dict[str, str] = {}
    for child in item:
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
        yield RawRow(number, [item.get(name, "") for name in FEED_COLUMNS])
