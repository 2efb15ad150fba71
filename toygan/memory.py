"""Settings of glibc's memory allocator and of Python's garbage collector.

With another C library, the functions for the allocator do nothing.
"""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

KEPT_BYTES = 2**30
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next batch of pictures.

    By default glibc returns large buffers to the kernel at once. Getting the buffers for the next batch takes
    up to half as long as generating a batch.
    """
    for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
        _set(option, KEPT_BYTES)


def limit_arenas(count: int) -> None:
    """Makes all threads allocate from at most `count` arenas.

    By default nearly every thread gets an arena, and each arena keeps the memory of its largest request. Only
    the first arena heeds `keep_freed_memory`; the others return each empty heap of 64 MiB to the kernel.
    glibc heeds the limit only before a second thread allocates memory.
    """
    _set(_M_ARENA_MAX, count)


@contextmanager
def importing() -> Iterator[None]:
    """Collects no garbage in the block, which imports modules, and never visits their objects later.

    Imports make many objects and hardly any garbage. While torch is imported, collections take 0.4 CPU
    seconds, and each full one later 0.15 s, in which no other thread runs Python.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def _set(option: int, value: int) -> None:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # TypeError: Windows has no library of this process
        return
    mallopt(option, value)
