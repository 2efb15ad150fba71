"""The titles and colours of uploaded products.

The key of an upload contains its category and sku. Titles and colours come from files `products.csv` beside
the photos, at photos/products.csv or photos/<category>/products.csv. A model can learn which title belongs to
the shape in a photo only if the product's title is known.
"""

import csv
import io
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Self

import pyarrow as pa

from catalog_schemas.products import COLOUR_HEX_PATTERN, DEFAULT_LANGUAGE, FINISHES
from catalog_schemas.validation import is_sku
from toygan.conditions.colour_names import ColourNames
from toygan.conditions.main_colour import MainColours
from toygan.conditions.text import encoder_reads
from toygan.data.photo import Photo
from toygan.errors import BadInput, ObjectNotFound
from toygan.storage.keys import PHOTOS_PREFIX
from toygan.storage.store import ObjectStore

log = logging.getLogger(__name__)

PRODUCTS_FILE: Final = "products.csv"
_LONGEST: Final = 2**20  # the largest number of characters in a cell
_NEEDED: Final = ("sku", "title")


@dataclass(frozen=True, kw_only=True)
class UploadedProduct:
    """A product as a catalog describes it; a field without a value is None."""

    title: str | None = None
    description: str | None = None
    colour: str | None = None
    colour_hex: str | None = None  # #RRGGBB
    finish: str | None = None
    language: str | None = None  # of title and description, a BCP-47 tag; None means DEFAULT_LANGUAGE

    @classmethod
    def of(cls, row: Mapping[str, object]) -> Self:
        """Reads a row of a catalog or of products.csv. An invalid colour or finish becomes None."""
        found: dict[str, str | None] = {}
        for name in (each.name for each in fields(cls)):
            value = row.get(name)
            found[name] = value.strip() or None if isinstance(value, str) else None
        if found["colour_hex"] and not COLOUR_HEX_PATTERN.fullmatch(found["colour_hex"]):
            found["colour_hex"] = None
        if found["finish"] not in FINISHES:
            found["finish"] = None
        return cls(**found)


def with_main_colours(
    products: Mapping[str, UploadedProduct], names: ColourNames
) -> dict[str, UploadedProduct]:
    """Adds main colours from the column `colour` or the titles, as a nightly run does.

    So the text of an uploaded product is the text with which a run looks for its layout.
    """
    colours = MainColours(names)
    found: dict[str, UploadedProduct] = {}
    for sku, each in products.items():
        colour = colours.find(
            title=each.title or "", colour=each.colour, colour_hex=each.colour_hex, finish=each.finish
        )
        found[sku] = replace(each, colour=colour.name, colour_hex=colour.hex)
    return found


def with_known_languages(products: Mapping[str, UploadedProduct], encoder: str) -> dict[str, UploadedProduct]:
    """Removes titles and descriptions in languages that the text encoder `encoder` does not know.

    A nightly run generates such products without a text, too.
    """
    return {
        sku: each
        if encoder_reads(encoder, each.language or DEFAULT_LANGUAGE)
        else replace(each, title=None, description=None)
        for sku, each in products.items()
    }


def is_products_file(key: str) -> bool:
    """Returns whether a key below photos/ is that of a products.csv."""
    *folders, name = key.removeprefix(PHOTOS_PREFIX).split("/")
    return name == PRODUCTS_FILE and len(folders) <= 1


def products_beside_photos(
    store: ObjectStore, skus_by_category: Mapping[str, Collection[str]]
) -> dict[str, UploadedProduct]:
    """Returns the descriptions of uploaded products in the files beside the photos, by sku.

    The products.csv of a category takes precedence over photos/products.csv. A file that cannot be read is
    left out, and the log names it: the photos are useful even without descriptions.
    """
    wanted = frozenset[str]().union(*skus_by_category.values())
    found = _of_file(store, f"{PHOTOS_PREFIX}{PRODUCTS_FILE}", wanted)
    for category, skus in skus_by_category.items():
        found |= _of_file(store, f"{PHOTOS_PREFIX}{category}/{PRODUCTS_FILE}", frozenset(skus))
    return found


def skus_by_category(index: pa.Table) -> dict[str, set[str]]:
    """Returns the skus in a photo index, by category."""
    found: dict[str, set[str]] = {}
    for row in index.select(["category", "sku"]).to_pylist():
        found.setdefault(row["category"], set()).add(row["sku"])
    return found


def uploaded_photo(
    row: Mapping[str, Any], data: bytes, products: Mapping[str, UploadedProduct], source: str
) -> Photo:
    """Returns the photo of a row of the photo index, with the description of its product."""
    product = products.get(row["sku"], UploadedProduct())
    return Photo(
        photo_id=row["photo_id"],
        sku=row["sku"],
        category=row["category"],
        title=product.title,
        colour_hex=row["colour_hex"] or product.colour_hex,
        photo=data,
        condition=None,
        source=source,
        description=product.description,
        colour=product.colour,
        finish=product.finish,
    )


def _of_file(store: ObjectStore, key: str, wanted: frozenset[str]) -> dict[str, UploadedProduct]:
    try:
        text = store.get(key).decode("utf-8-sig")
        return {sku: product for sku, product in _rows(text) if sku in wanted}
    except ObjectNotFound:
        return {}
    except (BadInput, UnicodeDecodeError, csv.Error) as error:
        log.warning(
            "the uploads are used without %s: %s; write it as CSV in UTF-8 with the columns %s",
            key,
            error,
            ", ".join((*_NEEDED, "colour", "colour_hex")),
        )
        return {}


def _rows(text: str) -> Iterator[tuple[str, UploadedProduct]]:
    """Yields the rows with a valid sku; raises BadInput if a required column is missing."""
    csv.field_size_limit(_LONGEST)
    table = csv.DictReader(io.StringIO(text, newline=""))
    if missing := [name for name in _NEEDED if name not in (table.fieldnames or ())]:
        raise BadInput(f"it has no column {' and no column '.join(missing)}")
    for row in table:
        sku = row["sku"]
        if isinstance(sku, str) and is_sku(sku):
            yield sku, UploadedProduct.of(row)
