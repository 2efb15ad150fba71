"""A store in memory, for tests and for dry runs."""

import threading
from collections.abc import Iterator

from toygan.errors import Conflict, ObjectNotFound, StoreConfigError
from toygan.storage.store import ObjectInfo, OnRefused, check_key, content_version, is_hidden, no_presigned


class MemoryStore:
    """Objects in a dictionary. They are lost when the process ends."""

    def __init__(self, name: str = "unnamed") -> None:
        self._name = name
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    @property
    def uri(self) -> str:
        """`memory://name`. With this URI, open_store finds only stores that named_memory_store made."""
        return f"memory://{self._name}"

    def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str = "application/octet-stream",
        cache_control: str | None = None,
    ) -> None:
        """Keeps a copy of `data` under `key`."""
        with self._lock:
            self._objects[check_key(key)] = bytes(data)

    def get(self, key: str) -> bytes:
        """Returns the object under `key`; raises ObjectNotFound."""
        with self._lock:
            try:
                return self._objects[check_key(key)]
            except KeyError:
                raise ObjectNotFound(key) from None

    def exists(self, key: str) -> bool:
        """Whether an object exists under `key`."""
        with self._lock:
            return check_key(key) in self._objects

    def size(self, key: str) -> int:
        """Returns the size of the object in bytes; raises ObjectNotFound."""
        with self._lock:
            try:
                return len(self._objects[check_key(key)])
            except KeyError:
                raise ObjectNotFound(key) from None

    def list_all(self, prefix: str = "", *, on_refused: OnRefused | None = None) -> Iterator[ObjectInfo]:
        """Yields the same as `list`, because all keys of this store are valid."""
        return self.list(prefix)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Returns the objects at the time of the call, sorted by key."""
        with self._lock:
            found = [
                ObjectInfo(key, len(data)) for key, data in self._objects.items() if key.startswith(prefix)
            ]
        found.sort(key=lambda info: info.key)
        return (info for info in found if not is_hidden(info.key, prefix))

    def delete(self, key: str) -> None:
        """Removes the object under `key`."""
        with self._lock:
            self._objects.pop(check_key(key), None)

    def get_versioned(self, key: str) -> tuple[bytes, str]:
        """Returns the object under `key` and the digest of its content."""
        data = self.get(key)
        return data, content_version(data)

    def put_if(
        self, key: str, data: bytes, version: str | None, *, content_type: str = "application/octet-stream"
    ) -> str:
        """Keeps a copy of `data` if the object has not changed; raises Conflict."""
        with self._lock:
            found = self._objects.get(check_key(key))
            if (None if found is None else content_version(found)) != version:
                raise Conflict(key)
            self._objects[key] = bytes(data)
        return content_version(data)

    def presigned(self, key: str, expires_s: int) -> str:
        """Always raises StoreConfigError."""
        raise no_presigned(self.uri)

    @property
    def has_conditional_writes(self) -> bool:
        """Always True."""
        return True


_named: dict[str, MemoryStore] = {}
_named_lock = threading.Lock()


def named_memory_store(name: str) -> MemoryStore:
    """Returns the memory store of this name; there is one per process."""
    if not name:
        raise StoreConfigError("a memory store needs a name: memory://NAME")
    with _named_lock:
        return _named.setdefault(name, MemoryStore(name))
