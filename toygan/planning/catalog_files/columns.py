"""Interprets the columns of a file, which are those of the contract, of a Shopify export or of a Merchant
Center feed.
"""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Final, Protocol

from catalog_schemas.products import PRODUCTS, REQUIRED
from toygan.errors import BadInput
from toygan.names import printable

ATTRIBUTES: Final = "attributes"
ATTRIBUTE_PREFIX: Final = "attributes."

_COLOUR_OPTIONS: Final = frozenset(
    {
        "color",
        "colour",
        "farbe",
        "couleur",
        "colore",
        "cor",
        "kleur",
        "kolor",
        "color name",
        "颜色",
        "顏色",
        "色",
    }
)
_MERCHANT_COLUMNS: Final = frozenset(
    {"google_product_category", "product_type", "image_link", "availability", "condition", "gtin"}
)
_MERCHANT_ATTRIBUTES: Final = ("brand", "material", "pattern", "size", "age_group", "gender", "item_group_id")
_SPELLINGS: Final = {"color": "colour", "color_hex": "colour_hex"}
_TAG = re.compile(r"<(?:script|style)\b.*?</(?:script|style)>|<[^>]*>", re.IGNORECASE | re.DOTALL)

Product = dict[str, str | dict[str, str]]  # maps columns of the contract to values; a missing column is null


class Reader(Protocol):
    """Converts the rows of a file to products."""

    @property
    def name(self) -> str:
        """A text for a person that says whose columns the file has."""

    @property
    def meanings(self) -> Mapping[str, str]:
        """Maps each column of the contract to the column or columns of the file from which it is read."""

    def product(self, cells: Sequence[str]) -> Product | None:
        """Returns the product of a row. Returns None for a row that only adds a picture to a product."""


def choose_reader(header: Sequence[str], mapping: Mapping[str, str]) -> Reader:
    """Chooses a reader by the names of the columns.

    A file with all of the contract's required columns has the contract's columns, whatever others it has.
    `mapping`, from toygan's columns to columns of the file, takes precedence over the names. Raises
    BadInput if `mapping` names a column that toygan or the file does not have.
    """
    places = _places(header)
    mapped: dict[str, int] = {}
    for column, theirs in mapping.items():
        if column not in PRODUCTS.names and not column.startswith(ATTRIBUTE_PREFIX):
            raise BadInput(f"toygan reads no column {column!r}; map to one of {', '.join(PRODUCTS.names)}")
        place = next(
            (i for i, name in enumerate(header) if name.strip() == theirs), places.get(_plain(theirs))
        )
        if place is None:
            raise BadInput(
                f"{theirs!r}, mapped to {column}, is not a column of the file; it has "
                f"{', '.join(map(printable, header))}"
            )
        mapped[column] = place
    has_title = "title" in places
    if set(REQUIRED) <= places.keys():
        return _Own(header=header, places=places, mapped=mapped)
    if has_title and {"handle", "url_handle"} & places.keys() and not {"sku", "category"} <= mapped.keys():
        return _Shopify(header=header, places=places, mapped=mapped)
    if has_title and "id" in places and "sku" not in places and _MERCHANT_COLUMNS & places.keys():
        return _Merchant(header=header, places=places, mapped=mapped)
    return _Own(header=header, places=places, mapped=mapped)


def _plain(name: str) -> str:
    """Normalises a name: `g:image link` and `Image link [image_link]` become image_link."""
    if bracketed := re.fullmatch(r".*\[([\w ]+)\]\s*", name):
        name = bracketed[1]
    name = name.strip().lower().removeprefix("g:")
    return re.sub(r"[\s_-]+", "_", name)


def _places(header: Sequence[str]) -> dict[str, int]:
    """Returns the position of the first column with each normalised name."""
    places: dict[str, int] = {}
    for index, name in enumerate(header):
        places.setdefault(_plain(name), index)
    return places


@dataclass(kw_only=True)
class _Columns:
    """The common part of all readers."""

    header: Sequence[str]
    places: Mapping[str, int]
    mapped: Mapping[str, int]

    def _cell(self, cells: Sequence[str], *names: str) -> str:
        """Returns the first text that is not empty in the columns `names`, or an empty text."""
        for name in names:
            place = self.places.get(name)
            if place is not None and (text := cells[place].strip()):
                return text
        return ""

    def _of_mapping(self, cells: Sequence[str], product: Product) -> Product:
        """Replaces values of the product by those of the mapped columns, and removes empty values."""
        attributes = product.get(ATTRIBUTES)
        more = dict(attributes) if isinstance(attributes, dict) else {}
        for column, place in self.mapped.items():
            if column.startswith(ATTRIBUTE_PREFIX):
                more[column.removeprefix(ATTRIBUTE_PREFIX)] = cells[place].strip()
            else:
                product[column] = cells[place].strip()
        if more or not isinstance(attributes, str):
            product[ATTRIBUTES] = {name: text for name, text in more.items() if text}
        return {column: value for column, value in product.items() if value}

    def _with_mapping(self, found: Mapping[str, str]) -> dict[str, str]:
        return {**found, **{column: self.header[place] for column, place in self.mapped.items()}}

    def _named(self, found: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """Maps those column names in `found` that the file has to the file's spelling of the name."""
        named = {
            column: " or ".join(self.header[self.places[name]] for name in names if name in self.places)
            for column, names in found.items()
        }
        return self._with_mapping({column: theirs for column, theirs in named.items() if theirs})


class _Own(_Columns):
    """Reads the columns of the contract. A column `attributes.material` is the attribute `material`."""

    name = "the catalog's own"

    @property
    def meanings(self) -> Mapping[str, str]:
        return self._with_mapping({column: self.header[place] for column, place in self._found.items()})

    @cached_property
    def _found(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for name, place in self.places.items():
            column = _SPELLINGS.get(name, name)
            if column in PRODUCTS.names or column.startswith(ATTRIBUTE_PREFIX):
                found.setdefault(column, place)
        return found

    def product(self, cells: Sequence[str]) -> Product | None:
        product: Product = {}
        attributes = {}
        for column, place in self._found.items():
            if column.startswith(ATTRIBUTE_PREFIX):
                attributes[column.removeprefix(ATTRIBUTE_PREFIX)] = cells[place].strip()
            else:
                product[column] = cells[place].strip()
        if attributes:
            product[ATTRIBUTES] = attributes
        return self._of_mapping(cells, product)


class _Merchant(_Columns):
    """Reads Merchant Center's product data, see support.google.com/merchants/answer/7052112."""

    name = "those of Merchant Center"
    _FOUND: Final = {
        "sku": ("id",),
        "title": ("title",),
        "category": ("product_type", "google_product_category"),
        "description": ("description",),
        "colour": ("color", "colour"),
        "language": ("content_language",),
    }

    @property
    def meanings(self) -> Mapping[str, str]:
        return self._named({**self._FOUND, ATTRIBUTES: _MERCHANT_ATTRIBUTES})

    def product(self, cells: Sequence[str]) -> Product | None:
        product: Product = {column: self._cell(cells, *names) for column, names in self._FOUND.items()}
        product["description"] = _without_tags(self._cell(cells, "description"))
        product[ATTRIBUTES] = {name: self._cell(cells, name) for name in _MERCHANT_ATTRIBUTES}
        return self._of_mapping(cells, product)


@dataclass(kw_only=True)
class _Shopify(_Columns):
    """Reads Shopify's product CSV, with one row per variant. Only a product's first row has the product's
    values.

    The sku is that of the variant, or else the handle with the variant's options.
    """

    name: ClassVar[str] = "those of Shopify"
    _FOUND: ClassVar[Mapping[str, Sequence[str]]] = {
        "sku": ("variant_sku", "sku", "handle", "url_handle"),
        "title": ("title",),
        "category": ("type", "product_category", "custom_product_type", "standard_product_type"),
        "description": ("body_(html)", "body", "description"),
    }

    _handle: str | None = field(default=None, init=False)
    # the values of the present product's first row
    _first: dict[str, str] = field(default_factory=dict, init=False)

    @property
    def meanings(self) -> Mapping[str, str]:
        options = [f"option{number}_value" for number in (1, 2, 3)]
        return self._named(
            {
                **self._FOUND,
                "colour": options,
                ATTRIBUTES: ("handle", "url_handle", "vendor", "tags", *options),
            }
        )

    def product(self, cells: Sequence[str]) -> Product | None:
        handle = self._cell(cells, "handle", "url_handle")
        sku = self._cell(cells, "variant_sku", "sku")
        if handle != self._handle:
            self._begin(handle, cells)
        elif not sku and not self._cell(cells, "option1_value", "variant_price", "price"):
            return None  # the row only adds a picture to the previous product
        options = self._options(cells)
        colour = next((value for name, value in options.items() if name.lower() in _COLOUR_OPTIONS), "")
        first = self._first
        product: Product = {
            "sku": sku or "-".join([handle, *options.values()]).replace("/", "-"),
            "title": first["title"],
            "category": first["category"],
            "description": first["description"],
            "colour": colour,
            ATTRIBUTES: {"handle": handle, "vendor": first["vendor"], "tags": first["tags"], **options},
        }
        return self._of_mapping(cells, product)

    def _begin(self, handle: str, cells: Sequence[str]) -> None:
        first = {column: self._cell(cells, *names) for column, names in self._FOUND.items()}
        first["description"] = _without_tags(first["description"])
        first |= {name: self._cell(cells, name) for name in ("vendor", "tags")}
        for number in (1, 2, 3):
            first[f"option{number}"] = self._cell(cells, f"option{number}_name")
        self._handle, self._first = handle, first

    def _options(self, cells: Sequence[str]) -> dict[str, str]:
        """Returns the options by name; a product without variants has the option Title: Default Title."""
        options = {}
        for number in (1, 2, 3):
            value = self._cell(cells, f"option{number}_value")
            if value and value != "Default Title":
                options[self._first[f"option{number}"] or f"option{number}"] = value
        return options


def _without_tags(text: str) -> str:
    return " ".join(html.unescape(_TAG.sub(" ", text)).split())
