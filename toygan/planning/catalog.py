"""Where a catalog lies: its file, its content's hash, and the condition files beside it."""

import hashlib
import os
import posixpath
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd

from catalog_schemas.products import stream_products
from catalog_schemas.validation import CheckedTable, TableError
from toygan.errors import BadInput, CatalogError, ObjectNotFound, StoreConfigError
from toygan.storage.store import ObjectStore, open_store
from toygan.uris import refuse_credentials

MAX_CONDITION_BYTES = 50_000_000  # of a file that is drawn from: 64 megapixels as PNG take less


class ConditionFileError(Exception):
    """A condition file cannot be had; the message is the reason that its row is set aside with."""


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """A catalog in a file, with the files that its rows name: what hashes one and what reads one.

    Both raise ConditionFileError for a file that cannot be had, and for one of more than MAX_CONDITION_BYTES
    bytes, which is not read.
    """

    uri: str
    path: Path
    sha256: str
    condition_sha256: Callable[[str], str]
    read_condition: Callable[[str], bytes]

    def stream(self) -> Iterator[CheckedTable]:
        """The checked rows in batches; raises CatalogError for a table that cannot be used."""
        batches = stream_products(self.path)
        while True:
            try:
                batch = next(batches, None)
            except TableError as error:
                raise CatalogError(str(error).replace(str(self.path), self.uri)) from error
            if batch is None:
                return
            yield batch


@contextmanager
def open_catalog(uri: str) -> Iterator[Catalog]:
    """A catalog in a local file (a path or file:///path), or an object that is copied to a temporary file.

    Raises CatalogError where there is none, and when a local file changes before the block ends, and
    StoreConfigError for a URI with a user or password.
    """
    refuse_credentials(uri)
    scheme, is_uri, rest = uri.partition("://")
    if not is_uri or scheme.lower() == "file":
        with _open_local(uri, Path(unquote(urlsplit(uri).path)) if is_uri else Path(uri)) as catalog:
            yield catalog
        return
    folder, _, name = rest.rpartition("/")
    if not folder or not name:
        raise CatalogError(f"{uri}: names no object; write the catalog as s3://BUCKET/PATH.parquet")
    store = open_store(f"{scheme}://{folder}")
    try:
        data = store.get(name)
    except ObjectNotFound:
        raise CatalogError(f"{uri}: there is no such object; check the URI") from None
    with tempfile.TemporaryDirectory(prefix="toygan-") as temporary:
        path = Path(temporary) / "catalog.parquet"
        path.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        del data
        files = _StoredFiles(store)
        yield Catalog(
            uri=uri,
            path=path,
            sha256=digest,
            condition_sha256=files.sha256,
            read_condition=files.read,
        )


@contextmanager
def _open_local(uri: str, path: Path) -> Iterator[Catalog]:
    try:
        before = path.stat()
        digest = _hash_file(path)
    except OSError as error:
        raise CatalogError(f"{uri}: the catalog cannot be read ({error.strerror}); check the path") from None
    files = _LocalFiles(path.parent)
    yield Catalog(
        uri=uri,
        path=path,
        sha256=digest,
        condition_sha256=files.sha256,
        read_condition=files.read,
    )
    if not path.exists() or _identity(path.stat()) != _identity(before):
        raise CatalogError(f"{uri}: the file changed while it was read; run again when it is complete")


def check_catalog(uri: str) -> None:
    """Raise CatalogError unless the catalog is a table of the contract with at least one good row.

    It stops at the first batch that has one, so it is cheap to ask before a run starts.
    """
    problems = []
    rows = 0
    with open_catalog(uri) as catalog:
        for batch in catalog.stream():
            if len(batch.good):
                return
            problems.append(count_reasons(batch.rejected))
            rows += batch.rejected["row"].nunique()
    raise no_good_row(uri, rows, problems)


def count_reasons(rejected: pd.DataFrame) -> "pd.Series[int]":
    """How many rows each (column, reason) has set aside; a reason that names a file counts without it."""
    reasons = rejected["reason"].str.partition(":")[0] if len(rejected) else rejected["reason"]
    return rejected.assign(reason=reasons).groupby(["column", "reason"]).size()


def no_good_row(uri: str, rows: int, problems: "list[pd.Series[int]]") -> CatalogError:
    """The error for a catalog of which no row can be used; it says why."""
    if not rows:
        return CatalogError(f"{uri}: the catalog has no rows; add products to it")
    counts = pd.concat(problems).groupby(level=[0, 1]).sum().sort_values(ascending=False, kind="stable")
    head = counts.head(8).reset_index().itertuples(index=False, name=None)
    said = "; ".join(f"{column}: {reason} ({count})" for column, reason, count in head)
    return CatalogError(
        f"{uri}: none of the {rows} rows can be used. By column and reason: {said}. Correct them"
    )


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _LocalFiles:
    """The condition files below a folder; a link that leads out of it is refused as such a name is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sha256(self, name: str) -> str:
        with self._opened(name) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def read(self, name: str) -> bytes:
        with self._opened(name) as file:
            data = file.read(MAX_CONDITION_BYTES + 1)
            _check_size(name, len(data))  # it may have grown
            return data

    @contextmanager
    def _opened(self, name: str) -> Iterator[BufferedReader]:
        try:
            root, path = os.path.realpath(self._folder), os.path.realpath(self._folder / name)
            if os.path.commonpath([root, path]) != root:
                raise ConditionFileError(f"leaves_folder: {name}")
            # A pipe would block, and a link that has come meanwhile could lead anywhere.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode):
                    raise ConditionFileError(f"condition_file_unreadable: {name}")
                _check_size(name, found.st_size)
                yield file
        except FileNotFoundError:
            raise ConditionFileError(f"condition_file_not_found: {name}") from None
        except (OSError, ValueError):  # ValueError: no name that a file can have
            raise ConditionFileError(f"condition_file_unreadable: {name}") from None


class _StoredFiles:
    """The condition files beside a catalog that is an object itself."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def sha256(self, name: str) -> str:
        return hashlib.sha256(self.read(name)).hexdigest()

    def read(self, name: str) -> bytes:
        key = posixpath.normpath(name)
        try:
            _check_size(name, self._store.size(key))
            return self._store.get(key)
        except ObjectNotFound:
            raise ConditionFileError(f"condition_file_not_found: {name}") from None
        except StoreConfigError:
            raise
        except BadInput:  # no key at all
            raise ConditionFileError(f"condition_file_unreadable: {name}") from None


def _check_size(name: str, size: int) -> None:
    if size > MAX_CONDITION_BYTES:
        raise ConditionFileError(f"condition_file_too_large: {name}")
