"""Opens a store by its URI."""

from pathlib import Path
from urllib.parse import unquote

from toygan.errors import StoreConfigError
from toygan.storage.store import ObjectStore
from toygan.uris import not_a_file_uri, refuse_credentials, split_file_uri


def open_store(uri: str | Path) -> ObjectStore:
    """Opens a plain path, `file:///path`, `s3://bucket/prefix` or `memory://name`.

    The call itself reads and writes nothing. Calls with the same memory:// name return the same store, which
    lives as long as the process. Raises StoreConfigError for any other URI, and for a URI with a user or
    password.
    """
    text = refuse_credentials(str(uri))
    scheme, separator, rest = text.partition("://")
    if not separator:
        if not text:
            raise StoreConfigError("the store's URI is empty; give a folder or s3://BUCKET/PREFIX")
        return _open_folder(Path(text))
    match scheme.lower():
        case "file":
            return _open_file_uri(text)
        case "s3":
            from toygan.storage.s3_store import S3Store

            bucket, _, prefix = rest.partition("/")
            return S3Store(bucket, prefix)
        case "memory":
            from toygan.storage.memory import named_memory_store

            return named_memory_store(rest)
    raise StoreConfigError(f"{text}: unknown kind of store {scheme!r}; use a folder, file:// or s3://")


def _open_file_uri(uri: str) -> ObjectStore:
    parts = split_file_uri(uri)
    if parts.netloc not in ("", "localhost") or not parts.path or parts.query or parts.fragment:
        raise not_a_file_uri(uri)
    return _open_folder(Path(unquote(parts.path)))


def _open_folder(folder: Path) -> ObjectStore:
    from toygan.storage.local import LocalStore

    return LocalStore(folder)
