"""Reads the titles and colours of uploaded products, from files beside the photos and from the shop's
catalog.
"""

import logging
from collections.abc import Collection, Mapping

from toygan.data.upload_products import UploadedProduct, products_beside_photos
from toygan.errors import BadInput
from toygan.planning.catalog import open_catalog
from toygan.storage.store import ObjectStore

log = logging.getLogger(__name__)


def products_of_uploads(
    store: ObjectStore, skus_by_category: Mapping[str, Collection[str]], catalog: str | None = None
) -> dict[str, UploadedProduct]:
    """Returns the descriptions of uploaded products, by sku.

    If several files describe a sku, the products.csv of its category takes precedence, then
    photos/products.csv, then the catalog at the URI `catalog`. The log names a file that cannot be read. The
    photos are used without such a file.
    """
    wanted = frozenset[str]().union(*skus_by_category.values())
    of_catalog = _of_catalog(catalog, wanted) if catalog is not None and wanted else {}
    return of_catalog | products_beside_photos(store, skus_by_category)


def _of_catalog(uri: str, wanted: frozenset[str]) -> dict[str, UploadedProduct]:
    found: dict[str, UploadedProduct] = {}
    try:
        with open_catalog(uri) as catalog:
            for batch in catalog.stream():
                rows = batch.good[batch.good["sku"].isin(wanted)]
                for row in rows.to_dict("records"):
                    found[row["sku"]] = UploadedProduct.of({str(key): value for key, value in row.items()})
    except BadInput as error:
        log.warning("the uploads are used without the titles of the catalog: %s", error)
    return found
