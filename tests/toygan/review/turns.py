"""Lets several actors work on one store in a given order, or in one that a seed determines."""

import random
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from toygan.storage.store import ObjectInfo, ObjectStore


class Turns:
    """Grants one store operation at a time, to a random actor, once all actors wait for one."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._condition = threading.Condition()
        self._waiting: dict[str, int] = {}  # operations of each actor that still works
        self._granted: str | None = None

    def take(self, actor: str, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Makes a call when it is this actor's turn."""
        with self._condition:
            self._waiting[actor] += 1
            self._choose()
            self._condition.wait_for(lambda: self._granted == actor)
            self._waiting[actor] -= 1
            self._granted = None
            try:
                return call(*args, **options)
            finally:
                self._choose()

    def _choose(self) -> None:
        if self._granted is None and self._waiting and all(self._waiting.values()):
            self._granted = self._random.choice(sorted(self._waiting))
            self._condition.notify_all()

    def run(self, actors: dict[str, Callable[[ObjectStore], None]], store: ObjectStore) -> None:
        """Runs all actors to their ends. Raises the first error of one of them."""
        self._waiting = dict.fromkeys(actors, 0)
        errors: list[BaseException] = []

        def work(name: str, act: Callable[[ObjectStore], None]) -> None:
            try:
                act(StoreOf(name, store, self))
            except BaseException as error:
                errors.append(error)
            finally:
                with self._condition:
                    del self._waiting[name]
                    self._choose()

        threads = [threading.Thread(target=work, args=item) for item in actors.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]


class Stretches(Turns):
    """Lets actors make given numbers of operations, one after the other, and then end in this order."""

    def __init__(self, *stretches: tuple[str, int]) -> None:
        super().__init__(0)
        self._left = [*stretches, *((actor, sys.maxsize) for actor, _ in stretches)]

    def _choose(self) -> None:
        if self._granted is None and self._waiting and all(self._waiting.values()):
            while not self._left[0][1] or self._left[0][0] not in self._waiting:
                del self._left[0]
            actor, left = self._left[0]
            self._left[0] = (actor, left - 1)
            self._granted = actor
            self._condition.notify_all()


class StoreOf:
    """The store as one actor has it."""

    def __init__(self, actor: str, inner: ObjectStore, turns: Turns) -> None:
        self._actor, self._inner, self._turns = actor, inner, turns

    uri = "memory://turns"
    has_conditional_writes = True

    def _take(self, name: str, *args: Any, **options: Any) -> Any:
        return self._turns.take(self._actor, getattr(self._inner, name), *args, **options)

    def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> None:
        self._take("put", key, data)

    def put_if(
        self, key: str, data: bytes, version: str | None, *, content_type: str = "application/octet-stream"
    ) -> str:
        return str(self._take("put_if", key, data, version))

    def get(self, key: str) -> bytes:
        return bytes(self._take("get", key))

    def get_versioned(self, key: str) -> tuple[bytes, str]:
        data, version = self._take("get_versioned", key)
        return data, version

    def exists(self, key: str) -> bool:
        return bool(self._take("exists", key))

    def size(self, key: str) -> int:
        return int(self._take("size", key))

    def delete(self, key: str) -> None:
        self._take("delete", key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return iter(list(self._take("list", prefix)))

    def list_all(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self.list(prefix)
