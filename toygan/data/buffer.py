"""A buffer in a file for more pictures than fit into memory: a million of 64 pixels take 12 GB."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toygan.disk import disk_errors


class MemoryMappedBuffer:
    """Stacks uint8 arrays of equal shape in a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._count = 0
        self._shape: tuple[int, ...] = ()

    def append(self, array: NDArray[np.uint8]) -> None:
        """Adds an array. Raises ValueError if its shape differs from the first, DiskFull for a full disk."""
        if self._count and array.shape != self._shape:
            raise ValueError(f"the array has the shape {array.shape}, but the first array had {self._shape}")
        with _names_a_full_disk():
            view = np.ascontiguousarray(array).data.cast("B")
            while view:
                view = view[self._file.write(view) :]
        self._count, self._shape = self._count + 1, array.shape

    def stacked(self) -> Tensor:
        """Returns all N arrays (N >= 1) as (N, ...) uint8.

        The result is a view of the file. It stays valid after the buffer is closed.
        """
        return torch.from_numpy(np.memmap(self._file, np.uint8, "r+", shape=(self._count, *self._shape)))


@contextmanager
def open_buffer() -> Iterator[MemoryMappedBuffer]:
    """Opens a buffer in a temporary file without a name. The file disappears when its last view is gone."""
    # Unbuffered, because on a full disk, closing a buffered file would try the failed write again, and fail
    # again.
    with tempfile.TemporaryFile(prefix="toygan-", buffering=0) as file:
        yield MemoryMappedBuffer(file)


@contextmanager
def _names_a_full_disk() -> Iterator[None]:
    folder = Path(tempfile.gettempdir())
    with disk_errors(folder, "make room there for the photos, or set TMPDIR to a folder that has room"):
        yield
