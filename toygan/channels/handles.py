"""Gives each product the handle by which Shopify knows it: rows with the same handle are one product."""

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final

from slugify import slugify

from toygan.channels.state import Exported

_DIGITS: Final = 8


def handles_of(rows: Sequence[Exported]) -> Mapping[str, str]:
    """Returns the handle of each sku.

    Skus share a handle only if the catalog states it for each of them. Any other sku gets a handle of its own
    from its title, or from itself if the title gives none. If another sku would get the same, or the catalog
    states it, the sku is appended. So no handle depends on the order of the products.
    """
    stated: dict[str, str] = {}
    titles: dict[str, str] = {}
    for row in sorted(rows, key=lambda each: (each.sku, each.image_index)):
        if row.handle:
            stated.setdefault(row.sku, row.handle)
        if row.title:
            titles.setdefault(row.sku, row.title)
    # Shopify makes handles lower-case.
    count = Counter({handle.lower() for handle in stated.values()})
    guesses = {sku: _guesses(sku, titles.get(sku, "")) for sku in {row.sku for row in rows} - stated.keys()}
    for of_sku in guesses.values():
        count.update(set(of_sku))
    own = {
        sku: next((guess for guess in of_sku if count[guess] == 1), f"{of_sku[-1]}-{_digest(sku)}")
        for sku, of_sku in guesses.items()
    }
    return {**stated, **own}


def _guesses(sku: str, title: str) -> tuple[str, str]:
    """Returns the handles that a sku may get, the better one first."""
    of_sku = slugify(sku, allow_unicode=True) or _digest(sku)
    guess = slugify(title, allow_unicode=True) or of_sku
    return guess, f"{guess}-{of_sku}"


def _digest(sku: str) -> str:
    return sha256(sku.encode(errors="surrogatepass")).hexdigest()[:_DIGITS]
