"""Opens a catalog.

Provides its table, the hash of its content, and the condition files that its rows name.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from catalog_schemas.products import EDIT_COLUMNS, stream_products
from catalog_schemas.validation import CheckedTable, TableError, open_parquet
from toygan.errors import BadInput, CatalogError, ObjectNotFound
from toygan.planning.catalog_files.convert import Converted, convert, is_parquet
from toygan.planning.edited_layouts import PREFIX, make_layout, own_layouts, with_edited_layouts
from toygan.planning.named_files import ConditionFileError, LocalFiles, StoredFiles
from toygan.planning.snapshot_folder import digest_of, read_snapshot_folder
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectStore
from toygan.uris import local_path, refuse_credentials

BY_NAME: Mapping[str, str] = MappingProxyType({})  # every column has the contract's name in the file
# The largest catalog that is read from a bucket: it is downloaded into memory.
MAX_STORED_BYTES = 2**30


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """A catalog in a local file, with functions that hash and read the condition files that its rows name.

    If there is no file of the given name, both functions take one whose name is the same in another form of
    Unicode (NFC or NFD). Both raise ConditionFileError for a file that is unavailable or has more than
    MAX_CONDITION_BYTES bytes. They do not read a file of that size.
    """

    uri: str
    path: Path
    sha256: str
    condition_sha256: Callable[[str], str]
    read_condition: Callable[[str], bytes]
    converted: Converted | None = None  # the conversion; None if the catalog was Parquet already

    @property
    def stream(self) -> Callable[[], Iterator[CheckedTable]]:
        """Returns the function that yields the checked rows in batches.

        A row may describe its layout by the layouts of other rows. Then its `layout_uri` is the name of the
        edited layout. If the catalog has a column that edits layouts, it is read twice, and the paths of its
        layouts are kept in memory.
        """
        source = None if self.converted is None else self.converted.rows
        batches = partial(stream_products, self.path, source=source)
        has_edits = not set(EDIT_COLUMNS).isdisjoint(self.column_names())
        return partial(_with_edited_layouts, batches) if has_edits else batches

    def column_names(self) -> list[str]:
        """Returns the columns of the Parquet file; raises CatalogError."""
        with open_parquet(self.path) as file:
            return list(file.schema_arrow.names)


def _with_edited_layouts(batches: Callable[[], Iterator[CheckedTable]]) -> Iterator[CheckedTable]:
    layouts = own_layouts(batches())
    for batch in batches():
        yield with_edited_layouts(batch, layouts)


@contextmanager
def open_catalog(uri: str, columns: Mapping[str, str] = BY_NAME) -> Iterator[Catalog]:
    """Opens a catalog in a local file (a path or file:///path) or in an object, which it copies to a file.

    A local folder, or a URI that ends in `/`, is read as a folder of snapshots, see
    `toygan.planning.snapshot_folder`. Formats other than Parquet are converted to a temporary Parquet file,
    see `toygan.planning.catalog_files`. `columns` maps columns of the contract to columns of the file with
    other names. Raises CatalogError for a missing catalog, for a TableError in the `with` block that names
    the file, and if a local file changes before the block ends. Raises StoreConfigError for a URI with a user
    or password, and BadInput for `columns` that do not fit.
    """
    refuse_credentials(uri)
    if (folder := _snapshot_folder(uri)) is not None:
        with _open_folder(uri, folder, columns) as catalog, _named(catalog.path, catalog.uri):
            yield replace(catalog, condition_sha256=_hash_of(catalog), read_condition=_reader_of(catalog))
        return
    with (
        _open(uri) as found,
        _as_parquet(found, columns) as catalog,
        _named(catalog.path, catalog.uri),
    ):
        yield replace(catalog, condition_sha256=_hash_of(found), read_condition=_reader_of(found))


@contextmanager
def _as_parquet(catalog: Catalog, columns: Mapping[str, str]) -> Iterator[Catalog]:
    """Converts to Parquet. The sha256 covers the mapping, because another mapping gives another catalog."""
    with _named(catalog.path, catalog.uri):
        is_ready = is_parquet(catalog.path)
    if is_ready:
        if columns:
            raise BadInput(
                f"{catalog.uri}: the columns of a Parquet catalog must have toygan's names "
                "(catalog_schemas/README.md); rename them and leave out --map"
            )
        yield catalog
        return
    with tempfile.TemporaryDirectory(prefix="toygan-") as temporary:
        with _named(catalog.path, catalog.uri):
            converted = convert(catalog.path, Path(temporary) / "catalog.parquet", columns)
        digest = catalog.sha256
        if columns:
            digest = hashlib.sha256(json.dumps([digest, sorted(columns.items())]).encode()).hexdigest()
        yield replace(catalog, path=converted.path, converted=converted, sha256=digest)


@contextmanager
def _named(path: Path, uri: str) -> Iterator[None]:
    """Turns a TableError that names the path into a CatalogError that names the URI."""
    try:
        yield
    except TableError as error:
        if str(path) not in str(error):
            raise
        raise CatalogError(str(error).replace(str(path), uri)) from error


def _snapshot_folder(uri: str) -> ObjectStore | None:
    """Returns the folder at a URI as a store. Returns None if the URI names a file."""
    path = local_path(uri)
    if path is None:
        return open_store(uri.rstrip("/")) if uri.endswith("/") else None
    try:
        return open_store(str(path)) if path.is_dir() else None
    except OSError:  # for example, the name is too long; opening the file will report this
        return None


@contextmanager
def _open_folder(uri: str, folder: ObjectStore, columns: Mapping[str, str]) -> Iterator[Catalog]:
    files = StoredFiles(folder)
    with tempfile.TemporaryDirectory(prefix="toygan-") as temporary:
        converted = read_snapshot_folder(folder, Path(temporary) / "catalog.parquet", columns)
        yield Catalog(
            uri=uri,
            path=converted.path,
            sha256=digest_of(converted.path),
            condition_sha256=files.sha256,
            read_condition=files.read,
            converted=converted,
        )


@contextmanager
def _open(uri: str) -> Iterator[Catalog]:
    if (path := local_path(uri)) is not None:
        with _open_local(uri, path) as catalog:
            yield catalog
        return
    scheme, _, rest = uri.partition("://")
    folder, _, name = rest.rpartition("/")
    if not folder or not name:
        raise CatalogError(f"{uri}: this does not name an object; write the catalog as s3://BUCKET/PATH")
    store = open_store(f"{scheme}://{folder}")
    try:
        if (size := store.size(name)) > MAX_STORED_BYTES:
            raise CatalogError(
                f"{uri}: the catalog has {size:,} bytes; at most {MAX_STORED_BYTES:,} can be read from a "
                "store; give a local copy of the file"
            )
        data = store.get(name)
    except ObjectNotFound:
        raise CatalogError(f"{uri}: there is no such object; check the URI") from None
    with tempfile.TemporaryDirectory(prefix="toygan-") as temporary:
        path = Path(temporary) / "catalog"
        path.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        del data
        yield _with_files(uri, path, digest, StoredFiles(store))


@contextmanager
def _open_local(uri: str, path: Path) -> Iterator[Catalog]:
    try:
        before = path.stat()
        digest = _hash_file(path)
    except OSError as error:
        raise CatalogError(f"{uri}: the catalog cannot be read ({error.strerror}); check the path") from None
    yield _with_files(uri, path, digest, LocalFiles(path.parent))
    if not path.exists() or _identity(path.stat()) != _identity(before):
        raise CatalogError(f"{uri}: the file changed while it was read; run again when it is complete")


def _with_files(uri: str, path: Path, sha256: str, files: LocalFiles | StoredFiles) -> Catalog:
    return Catalog(
        uri=uri,
        path=path,
        sha256=sha256,
        condition_sha256=files.sha256,
        read_condition=files.read,
    )


def _reader_of(catalog: Catalog) -> Callable[[str], bytes]:
    """Returns a function that maps a name in a row to a content: that of a condition file, or of an edited
    layout.
    """

    def read(name: str) -> bytes:
        if not name.startswith(PREFIX):
            return catalog.read_condition(name)
        try:
            return make_layout(name, catalog.read_condition)
        except BadInput as error:
            raise ConditionFileError(str(error)) from None

    return read


def _hash_of(catalog: Catalog) -> Callable[[str], str]:
    read = _reader_of(catalog)

    def digest(name: str) -> str:
        if not name.startswith(PREFIX):
            return catalog.condition_sha256(name)
        return hashlib.sha256(read(name)).hexdigest()

    return digest


def check_catalog(uri: str, columns: Mapping[str, str] = BY_NAME) -> None:
    """Raises CatalogError unless the catalog is a table of the contract with at least one good row.

    Stops at the first batch with a good row, so the check is cheap enough to precede a run.
    """
    problems = []
    rows = 0
    with open_catalog(uri, columns) as catalog:
        for batch in catalog.stream():
            if len(batch.good):
                return
            problems.append(count_reasons(batch.rejected))
            rows += batch.rejected["row"].nunique()
    raise no_good_row(uri, rows, problems)


def count_reasons(rejected: pd.DataFrame) -> "pd.Series[int]":
    """Counts the rows for each (column, reason). Ignores the file names in reasons."""
    reasons = rejected["reason"].str.partition(":")[0] if len(rejected) else rejected["reason"]
    return rejected.assign(reason=reasons).groupby(["column", "reason"]).size()


def no_good_row(uri: str, rows: int, problems: "list[pd.Series[int]]") -> CatalogError:
    """Builds the error for a catalog without usable rows; it lists the most frequent reasons."""
    if not rows:
        return CatalogError(f"{uri}: the catalog has no rows; add products to it")
    counts = pd.concat(problems).groupby(level=[0, 1]).sum().sort_values(ascending=False, kind="stable")
    head = counts.head(8).reset_index().itertuples(index=False, name=None)
    causes = "; ".join(f"{column}: {reason} ({count})" for column, reason, count in head)
    return CatalogError(
        f"{uri}: none of the {rows} rows can be used. The reasons, by column: {causes}. Correct these rows"
    )


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
