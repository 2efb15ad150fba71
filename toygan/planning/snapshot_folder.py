"""Reads a folder of snapshots as a catalog: the snapshot of each product becomes the `photo_uri` of its row.

A snapshot lies at <category>/<sku>.<extension> or <category>/<sku>/<file>. Both names are read in the form
NFC, whatever form they have on the disk. The file products.csv beside the categories may describe the
products, as any other catalog does.
"""

import hashlib
import logging
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from catalog_schemas.products import PRODUCTS, SourceRows
from catalog_schemas.validation import TableError
from toygan.errors import AccessRefused, CatalogError, ObjectNotFound
from toygan.names import composed
from toygan.planning.catalog_files.convert import Converted, convert
from toygan.storage.store import ObjectStore

log = logging.getLogger(__name__)

PRODUCTS_FILE: Final = "products.csv"
PICTURES: Final = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".heic",
        ".heif",
        ".png",
        ".webp",
        ".tif",
        ".tiff",
        ".bmp",
        ".gif",
        ".avif",
    )
)
_MOST_NAMED: Final = 3


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The key of a snapshot, and the sku and category that the key names, in the form NFC."""

    sku: str
    category: str
    key: str


def read_snapshot_folder(store: ObjectStore, target: Path, columns: Mapping[str, str]) -> Converted:
    """Writes one row for each product of the folder to the Parquet file `target`.

    A row of products.csv without a photo gets the snapshot of its sku. Other rows of products.csv stay as
    they are. A snapshot whose sku is in no row gets a row with the sku as its title. `columns` maps columns
    of the contract to those of products.csv.

    The log names a folder below the store's root that cannot be read. Its snapshots are left out. A row of
    products.csv whose snapshot may lie there gets a `photo_uri` in that folder. So it is set aside when this
    file is read, and gets no picture without its snapshot.

    Raises CatalogError for a folder without snapshots, and for a products.csv that is not a table. Raises
    AccessRefused for a root or a products.csv that cannot be read.
    """
    snapshots, refused = _find_snapshots(store)
    described = _read_products(store, columns)
    if not snapshots:
        raise CatalogError(
            f"{store.uri}: there is no snapshot in this folder; put snapshots at "
            "<category>/<sku>.jpg, or name a catalog file"
        )
    rows = SourceRows() if described is None else described.converted.rows
    known = (
        set[str]()
        if described is None
        else {composed(sku) for sku in described.table["sku"].drop_null().to_pylist()}
    )
    tables = [] if described is None else [_with_snapshots(described.table, snapshots, refused)]
    others = [each for each in snapshots.values() if each.sku not in known]
    if others and described is not None:
        log.warning(
            "no row in %s for %d snapshots, such as %s; their skus are used as titles",
            PRODUCTS_FILE,
            len(others),
            others[0].sku,
        )
    if others:
        start = max(rows.numbers, default=-1) + 1
        rows.numbers.extend(range(start, start + len(others)))
        tables.append(_table_of(others))
    pq.write_table(pa.concat_tables(tables), target)
    return Converted(
        path=target,
        format="a folder of snapshots",
        reader="the contract's" if described is None else described.converted.reader,
        meanings={"photo_uri": "the snapshots"} | (dict(described.converted.meanings) if described else {}),
        others=() if described is None else described.converted.others,
        rows=rows,
        is_complete=not refused and (described is None or described.converted.is_complete),
    )


def digest_of(path: Path) -> str:
    """Returns the sha256 of the rows in a Parquet file, which does not depend on how the file is encoded."""
    digest = hashlib.sha256()
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches():
            digest.update(repr(batch.to_pylist()).encode(errors="surrogatepass"))
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class _Described:
    """The rows of products.csv, with the columns of PRODUCTS."""

    table: pa.Table
    converted: Converted


def _find_snapshots(store: ObjectStore) -> tuple[dict[str, Snapshot], set[str]]:
    """Returns the first snapshot of each sku, and the keys (NFC) of the folders that cannot be read.

    Logs how many files are left out, and names each folder that cannot be read.
    """
    found, left_out, more = dict[str, Snapshot](), list[str](), 0
    refused = set[str]()

    def leave_out(folder: str, error: AccessRefused) -> None:
        if not _is_hidden(folder):
            log.warning("a folder is left out with all its snapshots: %s", error)
            refused.add(composed(folder))

    for info in store.list_all(on_refused=leave_out):
        *folders, name = info.key.split("/")
        if info.key == PRODUCTS_FILE or _is_hidden(info.key):
            continue
        stem, dot, extension = name.rpartition(".")
        if info.problem or not dot or f".{extension.lower()}" not in PICTURES or len(folders) not in (1, 2):
            left_out.append(info.key)
            continue
        sku = folders[1] if len(folders) == 2 else stem
        snapshot = Snapshot(sku=composed(sku), category=composed(folders[0]), key=info.key)
        more += found.setdefault(snapshot.sku, snapshot) is not snapshot
    if left_out:
        log.warning(
            "%d files are left out, because they are not pictures at <category>/<sku>.jpg, such as %s",
            len(left_out),
            ", ".join(left_out[:_MOST_NAMED]),
        )
    if more:
        log.warning("%d snapshots are left out, because only the first of each product is used", more)
    return found, refused


def _is_hidden(key: str) -> bool:
    return any(part.startswith(".") for part in key.split("/"))


def _read_products(store: ObjectStore, columns: Mapping[str, str]) -> _Described | None:
    try:
        data = store.get(PRODUCTS_FILE)
    except ObjectNotFound:
        return None
    with tempfile.TemporaryDirectory(prefix="toygan-") as temporary:
        source = Path(temporary) / PRODUCTS_FILE
        source.write_bytes(data)
        del data
        try:
            converted = convert(source, Path(temporary) / "rows.parquet", columns, required=("sku", "title"))
        except TableError as error:
            named = str(error).replace(str(source), f"{store.uri}/{PRODUCTS_FILE}")
            raise CatalogError(named) from error
        table = pq.read_table(converted.path)
    absent = [each for each in _FIELDS if each.name not in table.column_names]
    for each in absent:
        table = table.append_column(each.name, pa.nulls(len(table), each.type))
    return _Described(table=table.select([each.name for each in _FIELDS]), converted=converted)


# These fields may be null, so that the checks of the catalog can set a row without a category aside with a
# reason.
_FIELDS: Final = tuple(pa.field(each.name, each.type) for each in PRODUCTS)


def _with_snapshots(table: pa.Table, snapshots: Mapping[str, Snapshot], refused: Collection[str]) -> pa.Table:
    """Fills an empty `photo_uri` or category of each row whose sku has a snapshot.

    Also fills an empty `photo_uri` of each row whose snapshot may lie in a folder that cannot be read.
    """
    rows = zip(*(table[name].to_pylist() for name in ("sku", "category", "photo_uri")), strict=True)
    categories, uris = list[str | None](), list[str | None]()
    for sku, category, uri in rows:
        name, place = composed(sku or ""), composed(category or "")
        snapshot = snapshots.get(name)
        categories.append(category or (snapshot.category if snapshot else None))
        is_hidden = not {f"{place}/", f"{place}/{name}/"}.isdisjoint(refused)
        hidden = f"{category}/{sku}" if is_hidden else None
        uris.append(uri or (snapshot.key if snapshot else hidden))
    for name, values in (("category", categories), ("photo_uri", uris)):
        position = table.column_names.index(name)
        table = table.set_column(position, name, pa.array(values, pa.string()))
    return table


def _table_of(snapshots: list[Snapshot]) -> pa.Table:
    values = {
        "sku": [each.sku for each in snapshots],
        "category": [each.category for each in snapshots],
        "title": [each.sku for each in snapshots],
        "photo_uri": [each.key for each in snapshots],
    }
    count = len(snapshots)
    return pa.table(
        [pa.array(values.get(each.name, [None] * count), each.type) for each in _FIELDS],
        schema=pa.schema(_FIELDS),
    )
