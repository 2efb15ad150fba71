"""Makes calls in parallel and returns their results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def in_order(
    pool: ThreadPoolExecutor, call: Callable[[_In], _Out], items: Iterable[_In], *, ahead: int
) -> Iterator[tuple[_In, _Out]]:
    """Yields each item with the result of its call, in order.

    At most `ahead` calls are running or have a result that has not been yielded; this limits the memory. An
    error of a call is raised when its result would be yielded.
    """
    waiting: deque[tuple[_In, Future[_Out]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(call, item)))
        if len(waiting) >= ahead:
            first, result = waiting.popleft()
            yield first, result.result()
    for first, result in waiting:
        yield first, result.result()
