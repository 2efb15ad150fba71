"""From the key of a picture to its identity, its seed and its latents.

A picture is a function of its key alone: neither its batch-mates nor the order of the work change it.
"""

from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SEPARATOR = "\x1f"  # never part of a sku, a model name, a version or a fingerprint


def image_id(
    sku: str, image_index: int, attempt: int, model_name: str, model_version: str, row_fingerprint: str
) -> str:
    """The name of a candidate: the first 20 hex characters of sha256 over its whole key."""
    return _digest(sku, image_index, attempt, model_name, model_version, row_fingerprint).hex()[:20]


def image_seed(sku: str, image_index: int, attempt: int, model_name: str, model_version: str) -> int:
    """The first 63 bits of sha256 over the key, so that it fits a signed 64-bit column.

    The row's texts and colours are left out: a product that changes its colour keeps its shape.
    """
    return int.from_bytes(_digest(sku, image_index, attempt, model_name, model_version)[:8]) >> 1


def latent(seed: int, size: int) -> "NDArray[np.float32]":
    """Standard normal latents, (size,) float32.

    numpy's Philox takes the whole seed; torch's CPU generator would drop all but the lower 32 bits, and among
    a million products some hundred pairs would share their latents.
    """
    import numpy as np

    return np.random.Generator(np.random.Philox(key=seed)).standard_normal(size, dtype=np.float32)


def _digest(*parts: str | int) -> bytes:
    return sha256(SEPARATOR.join(str(part) for part in parts).encode()).digest()
