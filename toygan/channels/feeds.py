"""Writes the feeds of an export: which picture belongs to which product, and where it is.

Google Merchant Center's feeds are supplemental: they add pictures to products that the shop's own feed
describes. Sources: support.google.com/merchants/answer/7052112 (attributes); Shopify's product CSV;
schema.org/Product.
"""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from xml.etree import ElementTree

from toygan.channels.handles import handles_of
from toygan.channels.rules import Channel, FeedName
from toygan.channels.state import Exported, File
from toygan.channels.texts import one_line

_G: Final = "http://base.google.com/ns/1.0"
_MOST_ADDITIONAL: Final = 10  # the largest number of additional_image_link of a product
_SYNTHETIC: Final = "https://schema.org/TrainedAlgorithmicMediaDigitalSource"

_KEYS: Final[Mapping[FeedName, str]] = MappingProxyType(
    {
        "merchant-tsv": "feeds/merchant.tsv",
        "merchant-xml": "feeds/merchant.xml",
        "shopify-csv": "feeds/shopify.csv",
        "pictures-csv": "feeds/pictures.csv",
        "json-ld": "feeds/products.jsonld",
    }
)
COLLAGES_KEY: Final = "feeds/collages.csv"
FEED_KEYS: Final = frozenset({*_KEYS.values(), COLLAGES_KEY})

_PICTURE_COLUMNS: Final = (
    *("sku", "category", "position", "slot", "role", "frame", "format", "width", "height", "bytes"),
    *("path", "url", "alt", "language"),
)

Urls = Callable[[str], str]  # maps a key to its URL


@dataclass(frozen=True, kw_only=True)
class Feed:
    """A feed: a file that the export writes beside the pictures."""

    key: str
    content_type: str
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Product:
    """A product and its exported pictures, in the order of their image index."""

    sku: str
    handle: str
    pictures: tuple[Exported, ...]

    @property
    def first(self) -> Exported:
        return self.pictures[0]


def products_of(rows: Sequence[Exported]) -> list[Product]:
    """Groups the rows that have files by product, in the order of skus.

    Handles follow from all rows, so they stay when a product has no file for a night.
    """
    handles = handles_of(rows)
    by_sku: dict[str, list[Exported]] = {}
    for row in sorted(rows, key=lambda each: (each.sku, each.image_index)):
        if row.files:
            by_sku.setdefault(row.sku, []).append(row)
    return [
        Product(sku=sku, handle=handles[sku], pictures=tuple(pictures)) for sku, pictures in by_sku.items()
    ]


def shown_file(picture: Exported) -> File:
    """Returns the file that stands for a picture if there is room for only one file.

    It is the widest file of the first frame in the last format. A channel lists its formats from the newest
    to the oldest, which every program reads.
    """
    first = [file for file in picture.files if file.frame == picture.files[0].frame]
    return max(first, key=lambda file: (file.format == first[-1].format, file.width))


def write_feeds(channel: Channel, products: Sequence[Product], urls: Urls | None) -> list[Feed]:
    """Returns the channel's feeds. Without URLs only the table of the pictures can be written."""
    if urls is None:
        return [_pictures_csv(channel, products, None)]
    return [_WRITERS[name](channel, products, urls) for name in channel.feeds]


def _links(product: Product, urls: Urls) -> list[str]:
    return [urls(shown_file(picture).key) for picture in product.pictures]


def _merchant_tsv(channel: Channel, products: Sequence[Product], urls: Urls) -> Feed:
    rows = [("id", "image_link", "additional_image_link")]
    for product in products:
        first, *more = _links(product, urls)
        # Commas separate links, so a comma in a link is escaped.
        additional = ",".join(link.replace(",", "%2C") for link in more[:_MOST_ADDITIONAL])
        rows.append((product.sku, first, additional))
    return Feed(
        key=_KEYS["merchant-tsv"],
        content_type="text/tab-separated-values; charset=utf-8",
        data=_table(rows, delimiter="\t"),
    )


def _merchant_xml(channel: Channel, products: Sequence[Product], urls: Urls) -> Feed:
    ElementTree.register_namespace("g", _G)
    root = ElementTree.Element("rss", version="2.0")
    top = ElementTree.SubElement(root, "channel")
    for name, text in (("title", "Product pictures"), ("description", "Pictures of products")):
        ElementTree.SubElement(top, name).text = text
    for product in products:
        item = ElementTree.SubElement(top, "item")
        first, *more = _links(product, urls)
        ElementTree.SubElement(item, f"{{{_G}}}id").text = product.sku
        ElementTree.SubElement(item, f"{{{_G}}}image_link").text = first
        for link in more[:_MOST_ADDITIONAL]:
            ElementTree.SubElement(item, f"{{{_G}}}additional_image_link").text = link
    ElementTree.indent(root)
    data = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return Feed(key=_KEYS["merchant-xml"], content_type="application/xml", data=data)


def _shopify_csv(channel: Channel, products: Sequence[Product], urls: Urls) -> Feed:
    """Writes a row for each picture. Variants share their product's handle; their pictures are adjacent."""
    rows: list[Sequence[object]] = [("Handle", "Title", "Image Src", "Image Position", "Image Alt Text")]
    by_handle: dict[str, list[Exported]] = {}
    for product in products:
        by_handle.setdefault(product.handle, []).extend(product.pictures)
    for handle, pictures in by_handle.items():
        for position, picture in enumerate(pictures[: channel.most_pictures], 1):
            title = one_line(picture.title or picture.sku) if position == 1 else ""
            link = urls(shown_file(picture).key)
            rows.append((handle, title, link, position, picture.alt))
    return Feed(key=_KEYS["shopify-csv"], content_type="text/csv; charset=utf-8", data=_table(rows))


def _pictures_csv(channel: Channel, products: Sequence[Product], urls: Urls | None) -> Feed:
    """Writes one row for each file, for spreadsheets and for programs that build `srcset`."""
    rows = []
    for product in products:
        for position, picture in enumerate(product.pictures, 1):
            slot = channel.slots[position - 1] if channel.slots else ""
            role = "main" if position == 1 and channel.role == "main" else "secondary"
            shown = {"position": position, "slot": slot, "role": role}
            for file in picture.files:
                rows.append({**_file_columns(picture, file, urls), **shown})
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _PICTURE_COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return Feed(
        key=_KEYS["pictures-csv"], content_type="text/csv; charset=utf-8", data=text.getvalue().encode()
    )


def _file_columns(picture: Exported, file: File, urls: Urls | None) -> dict[str, object]:
    return {
        "sku": picture.sku,
        "category": picture.category,
        "frame": file.frame,
        "format": file.format,
        "width": file.width,
        "height": file.height,
        "bytes": file.bytes,
        "path": file.key,
        "url": "" if urls is None else urls(file.key),
        "alt": picture.alt,
        "language": picture.language or "",
    }


def _json_ld(channel: Channel, products: Sequence[Product], urls: Urls) -> Feed:
    """Writes a Product for each product. Each `<` is escaped, so the JSON may stand in a script element."""
    graph = [
        {
            "@type": "Product",
            "sku": product.sku,
            **({"name": one_line(product.first.title)} if product.first.title else {}),
            "image": [_image_object(picture, urls) for picture in product.pictures],
        }
        for product in products
    ]
    text = json.dumps({"@context": "https://schema.org", "@graph": graph}, ensure_ascii=False, indent=1)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Feed(key=_KEYS["json-ld"], content_type="application/ld+json", data=text.encode())


def _image_object(picture: Exported, urls: Urls) -> dict[str, object]:
    file = shown_file(picture)
    return {
        "@type": "ImageObject",
        "contentUrl": urls(file.key),
        "width": file.width,
        "height": file.height,
        "digitalSourceType": _SYNTHETIC,
        **({"caption": picture.alt} if picture.alt else {}),
        **({"inLanguage": picture.language} if picture.language else {}),
    }


def _table(rows: Sequence[Sequence[object]], *, delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


_WRITERS: Final[Mapping[FeedName, Callable[[Channel, Sequence[Product], Urls], Feed]]] = {
    "merchant-tsv": _merchant_tsv,
    "merchant-xml": _merchant_xml,
    "shopify-csv": _shopify_csv,
    "pictures-csv": _pictures_csv,
    "json-ld": _json_ld,
}
