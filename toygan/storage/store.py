"""The protocol that every store keeps, and the door to all of them: open_store(uri)."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from toygan.errors import BadInput, StoreConfigError
from toygan.names import printable
from toygan.uris import refuse_credentials

MAX_KEY_BYTES = 1024
MAX_SEGMENT_BYTES = 255  # longest file name of the usual file systems
TMP_PREFIX = ".tmp/"
PARQUET = "application/vnd.apache.parquet"  # the content type of tables


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a listing; `size` is in bytes, `problem` a reason why no key can reach it."""

    key: str
    size: int
    problem: str | None = None


class ObjectStore(Protocol):
    """Whole objects under string keys. All methods may be called from many threads at once.

    Keys are relative paths (see check_key). Besides the errors named below every method raises BadInput for
    a key that is none, StoreConfigError where the user has to change something, and StoreUnavailable where a
    later call may succeed.
    """

    @property
    def uri(self) -> str:
        """What open_store needs to open this store again."""

    def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> None:
        """Write an object or replace it in one step: a reader sees the old or the new one, never a part."""

    def get(self, key: str) -> bytes:
        """The whole object; raises ObjectNotFound."""

    def exists(self, key: str) -> bool:
        """Whether an object lies under exactly this key."""

    def size(self, key: str) -> int:
        """The object's bytes, without reading them; raises ObjectNotFound."""

    def list_all(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """As `list`, and what lies there but cannot be had: with a `problem`, and its key made printable."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects whose key starts with `prefix` (any string), sorted by key.

        Unfinished files, those under `.tmp/`, are listed only if the prefix itself starts with `.tmp/`.
        """

    def delete(self, key: str) -> None:
        """Remove the object; no error where there is none."""

    def get_versioned(self, key: str) -> tuple[bytes, str]:
        """The whole object and what put_if calls its version; raises ObjectNotFound.

        Objects of equal content may have equal versions.
        """

    def put_if(
        self, key: str, data: bytes, version: str | None, *, content_type: str = "application/octet-stream"
    ) -> None:
        """Put over the object of this version only, or with None only where there is none; raises Conflict.

        After a Conflict the object may still be the caller's own: where the answer to a first try was lost,
        the second one meets it. Of many callers at once one gets its way, if the store
        has_conditional_writes. A store without them looks just before it puts, which leaves a moment in which
        one of two callers can overwrite the other. Nothing of this holds against a plain put.
        """

    @property
    def has_conditional_writes(self) -> bool:
        """Whether put_if is one step; the first look may write a temporary object and remove it again."""


def check_key(key: str) -> str:
    """Return `key` if every store can hold it, else raise BadInput.

    A key is a relative path with `/` between its parts: no part is empty, `.` or `..`, none holds a control
    character or a backslash or takes more than 255 bytes in UTF-8, and all of it takes at most 1024.
    """
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        raise BadInput(f"the key '{printable(key)}' is not valid Unicode text") from None
    if len(encoded) > MAX_KEY_BYTES:
        raise BadInput(f"the key {key[:80]!r}... takes more than {MAX_KEY_BYTES} bytes")
    for part in key.split("/"):
        if part in ("", ".", ".."):
            raise BadInput(f"the key {key!r} has a part that is empty, '.' or '..'")
        if "\\" in part or any(ord(letter) < 32 or ord(letter) == 127 for letter in part):
            raise BadInput(f"the key {key!r} holds a control character or a backslash")
        if len(part.encode()) > MAX_SEGMENT_BYTES:
            raise BadInput(f"a part of the key {key[:80]!r}... takes more than {MAX_SEGMENT_BYTES} bytes")
    return key


def named_info(key: str, size: int) -> ObjectInfo:
    """What a listing says of a file or object of any name: that no key can name it, where that is so."""
    try:
        return ObjectInfo(check_key(key), size)
    except BadInput as error:
        return ObjectInfo(printable(key), size, f"{error}; rename it")


def content_version(data: bytes) -> str:
    """The version of an object in a store that has to make one up: the sha256 of its content."""
    return hashlib.sha256(data).hexdigest()


def is_hidden(key: str, prefix: str) -> bool:
    """Whether a listing of `prefix` leaves `key` out because it is an unfinished file."""
    return key.startswith(TMP_PREFIX) and not prefix.startswith(TMP_PREFIX)


def open_store(uri: str | Path) -> ObjectStore:
    """Open a plain path, `file:///path`, `s3://bucket/prefix` or `memory://name`.

    Nothing is read or written yet. A memory store lives as long as the process and is shared by its name.
    Raises StoreConfigError for any other URI, and for one with a user or password.
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
            from toygan.storage.s3 import S3Store

            bucket, _, prefix = rest.partition("/")
            return S3Store(bucket, prefix)
        case "memory":
            from toygan.storage.memory import named_memory_store

            return named_memory_store(rest)
    raise StoreConfigError(f"{text}: unknown kind of store {scheme!r}; use a folder, file:// or s3://")


def _open_file_uri(uri: str) -> ObjectStore:
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost") or not parts.path or parts.query or parts.fragment:
        raise StoreConfigError(f"{uri}: not a file URI of this machine; write it as file:///absolute/path")
    return _open_folder(Path(unquote(parts.path)))


def _open_folder(folder: Path) -> ObjectStore:
    from toygan.storage.local import LocalStore

    return LocalStore(folder)
