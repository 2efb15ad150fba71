"""Computes the fingerprints of catalog rows, for a plan and for products that have stored pictures."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from catalog_schemas.products import FINGERPRINTED, row_fingerprint
from catalog_schemas.validation import hash_strings
from toygan.parallel import reading_pool
from toygan.planning.catalog import open_catalog
from toygan.planning.condition_files import hash_conditions
from toygan.planning.live import equal_hashes, joined


def fingerprints_of(products: pd.DataFrame, conditions: Sequence[Mapping[str, str]]) -> list[str]:
    """Returns the fingerprint of each product, given the hashes of its condition files."""
    columns = [products[name].to_list() for name in FINGERPRINTED]
    return [
        row_fingerprint(dict(zip(FINGERPRINTED, values, strict=True)), files)
        for *values, files in zip(*columns, conditions, strict=True)
    ]


def read_rows(
    catalog: str,
    columns: Mapping[str, str],
    images_per_product: int,
    pictures: pa.Table,
    *,
    are_wanted: bool,
) -> pd.DataFrame:
    """Reads the rows that want at least one of their products' `pictures`.

    Without `are_wanted`, reads the rows that do not want at least one of them, because its index is beyond
    the number of wanted pictures. `pictures` has the columns `sku` and `image_index`. Returns `sku`,
    `images_wanted` and `row_fingerprint`. Leaves out rows that are set aside. Does not open the catalog if
    there are no pictures; else raises CatalogError for an unusable catalog.
    """
    found: list[tuple[str, int, str]] = []
    names = ["sku", "images_wanted", "row_fingerprint"]
    if not pictures.num_rows:
        return pd.DataFrame(found, columns=names)
    hashes = hash_strings(joined(pictures["sku"]))
    order = np.argsort(hashes, kind="stable")
    hashes, index = hashes[order], pictures["image_index"].to_numpy()[order]
    with open_catalog(catalog, columns) as opened, reading_pool(catalog) as pool:
        for checked in opened.stream():
            good = checked.good.fillna({"images_wanted": images_per_product})
            mine, theirs = equal_hashes(hashes, hash_strings(pa.array(good["sku"], pa.large_string())))
            is_wanted = index[theirs] < good["images_wanted"].to_numpy("int64")[mine]
            chosen = np.unique(mine[is_wanted == are_wanted])
            # Only these rows, because a fingerprint needs the content of the condition files.
            rows, conditions, _ = hash_conditions(good.iloc[chosen], opened, pool)
            prints = fingerprints_of(rows, conditions)
            found += zip(rows["sku"], rows["images_wanted"], prints, strict=True)
    return pd.DataFrame(found, columns=names)
