"""The protocol of all stores. `toygan.storage.open_store` opens any of them."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from toygan.errors import AccessRefused, BadInput, StoreConfigError
from toygan.names import printable

MAX_KEY_BYTES = 1024
MAX_SEGMENT_BYTES = 255  # the longest file name, in bytes, of the usual file systems
TMP_PREFIX = ".tmp/"
PARQUET = "application/vnd.apache.parquet"  # the content type of tables


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a listing.

    `size` is in bytes. `problem` says why the object has no valid key; None if it has one.
    """

    key: str
    size: int
    problem: str | None = None


OnRefused = Callable[[str, AccessRefused], None]  # takes the folder's key, which ends in a slash


class ObjectStore(Protocol):
    """Whole objects under string keys. All methods are thread-safe.

    Keys are relative paths, see check_key. Besides the errors that its docstring names, every method raises
    BadInput for an invalid key, StoreConfigError if the user has to change something, and StoreUnavailable if
    a later call may succeed.
    """

    @property
    def uri(self) -> str:
        """The URI by which open_store opens this store again."""

    def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str = "application/octet-stream",
        cache_control: str | None = None,
    ) -> None:
        """Writes or replaces an object in one step: a reader sees the old or the new one, never a part.

        `cache_control` is the HTTP header of that name for stores that serve their objects.
        """

    def get(self, key: str) -> bytes:
        """Returns the whole object; raises ObjectNotFound."""

    def exists(self, key: str) -> bool:
        """Whether an object exists under exactly this key."""

    def size(self, key: str) -> int:
        """Returns the object's size in bytes without reading it; raises ObjectNotFound."""

    def list_all(self, prefix: str = "", *, on_refused: OnRefused | None = None) -> Iterator[ObjectInfo]:
        """Yields what `list` yields, and also objects without a valid key.

        These have a `problem` and a printable key. Raises AccessRefused for a folder that cannot be read. If
        there is `on_refused`, a folder below the listed one does not raise: this function gets its key and
        error, and the listing goes on without the folder. Such a listing must not decide what is deleted.
        """

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yields all objects with keys that start with `prefix` (any string), sorted by key.

        Unfinished files (under `.tmp/`) are listed only if the prefix starts with `.tmp/`.
        """

    def delete(self, key: str) -> None:
        """Removes the object; a missing object is not an error."""

    def get_versioned(self, key: str) -> tuple[bytes, str]:
        """Returns the whole object and its version for put_if; raises ObjectNotFound.

        Objects of equal content may have equal versions.
        """

    def put_if(
        self, key: str, data: bytes, version: str | None, *, content_type: str = "application/octet-stream"
    ) -> str:
        """Puts if the stored object has this version (None: if there is no object); else raises Conflict.

        Returns the version of the new object. After a Conflict, the stored object may be the caller's own, if
        a first try succeeded but its answer was lost. If the store has_conditional_writes, exactly one of
        several concurrent callers succeeds. A store without them compares just before it puts. There, one of
        two concurrent callers may overwrite the other's object. put_if does not protect against a plain put.
        """

    def presigned(self, key: str, expires_s: int) -> str:
        """Returns a URL by which anybody may read the object until the URL expires.

        Raises StoreConfigError if the store has no such URLs.
        """

    @property
    def has_conditional_writes(self) -> bool:
        """Whether put_if compares and writes in one step. The test may write a temporary object."""


def check_key(key: str) -> str:
    """Returns `key` if every store can hold it, else raises BadInput.

    A key is a relative path with `/` between its parts. No part is empty, `.` or `..`, holds a control
    character or a backslash, or takes more than 255 bytes in UTF-8. The whole key takes at most 1024 bytes.
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
    """Returns the listing entry of a file or object, with a `problem` if its name is not a valid key."""
    try:
        return ObjectInfo(check_key(key), size)
    except BadInput as error:
        return ObjectInfo(printable(key), size, f"{error}; rename it")


def no_presigned(uri: str) -> StoreConfigError:
    """Builds the error of a store that cannot sign URLs for its objects."""
    return StoreConfigError(f"{uri} has no presigned URLs; give --base-url, or export to s3://BUCKET/PREFIX")


def content_version(data: bytes) -> str:
    """Returns the sha256 of the content, which is the version of an object in stores without ETags."""
    return hashlib.sha256(data).hexdigest()


def is_hidden(key: str, prefix: str) -> bool:
    """Whether a listing of `prefix` omits `key` because it is an unfinished file."""
    return key.startswith(TMP_PREFIX) and not prefix.startswith(TMP_PREFIX)
