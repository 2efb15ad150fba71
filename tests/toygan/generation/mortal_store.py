"""A process that dies in the middle of its work."""

from collections.abc import Iterator
from typing import Any

from toygan.storage.store import ObjectInfo, ObjectStore, content_version


class Died(BaseException):
    """What a process that is killed never gets to catch."""


class MortalStore:
    """A store whose process dies with the n-th change that it makes, before or after that is made."""

    def __init__(self, inner: ObjectStore, changes: int, *, is_last_made: bool) -> None:
        self.inner, self.left, self.is_last_made = inner, changes, is_last_made

    @property
    def uri(self) -> str:
        return self.inner.uri

    def _change(self, call: Any, *args: Any) -> None:
        self.left -= 1
        if self.left > 0 or (self.left == 0 and self.is_last_made):
            call(*args)
        if self.left <= 0:
            raise Died

    def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str = "application/octet-stream",
        cache_control: str | None = None,
    ) -> None:
        self._change(self.inner.put, key, data)

    def put_if(
        self, key: str, data: bytes, version: str | None, *, content_type: str = "application/octet-stream"
    ) -> str:
        self._change(self.inner.put_if, key, data, version)
        return content_version(data)

    def delete(self, key: str) -> None:
        self._change(self.inner.delete, key)

    def get_versioned(self, key: str) -> tuple[bytes, str]:
        return self.inner.get_versioned(key)

    @property
    def has_conditional_writes(self) -> bool:
        return self.inner.has_conditional_writes

    def get(self, key: str) -> bytes:
        return self.inner.get(key)

    def exists(self, key: str) -> bool:
        return self.inner.exists(key)

    def size(self, key: str) -> int:
        return self.inner.size(key)

    def list_all(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self.inner.list_all(prefix)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self.inner.list(prefix)
