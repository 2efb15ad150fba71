"""Makes calls in parallel and returns their results in order; chooses how many threads read files."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

from toygan.device import usable_cores
from toygan.uris import local_path

REMOTE_READS: Final = 8  # that wait for their answers at once
_In = TypeVar("_In")
_Out = TypeVar("_Out")


def reading_pool(*uris: str) -> ThreadPoolExecutor:
    """Returns the threads that read, check and write the files of catalogs and stores at `uris`.

    Files of this machine come at once. More threads than cores would wait for each other, because only one
    at a time can run Python.
    """
    is_remote = any(local_path(uri) is None for uri in uris)
    return ThreadPoolExecutor(REMOTE_READS if is_remote else usable_cores(), "read")


def in_order(
    pool: ThreadPoolExecutor, call: Callable[[_In], _Out], items: Iterable[_In], *, ahead: int
) -> Iterator[tuple[_In, _Out]]:
    """Yields each item with the result of its call, in order.

    To limit the memory, at most `ahead` calls are running or have results that are not yielded yet. If a call
    raises, the exception is raised in the place of its result.
    """
    waiting: deque[tuple[_In, Future[_Out]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(call, item)))
        if len(waiting) >= ahead:
            first, result = waiting.popleft()
            yield first, result.result()
    for first, result in waiting:
        yield first, result.result()
