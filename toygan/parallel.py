"""Many calls at a time, their results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def in_order(
    pool: ThreadPoolExecutor, call: Callable[[_In], _Out], items: Iterable[_In], *, ahead: int
) -> Iterator[tuple[_In, _Out]]:
    """Each item with its result, in order; at most `ahead` calls are under way or wait to be taken.

    So memory is bounded, however many items there are. Raises what a call raised, in its turn.
    """
    waiting: deque[tuple[_In, Future[_Out]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(call, item)))
        if len(waiting) >= ahead:
            first, result = waiting.popleft()
            yield first, result.result()
    for first, result in waiting:
        yield first, result.result()
