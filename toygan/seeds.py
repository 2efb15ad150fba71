"""Derives the identity, the seed and the latents of a picture from its key.

A picture depends on its key alone, not on the other pictures of its batch or the order of the work.
"""

from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SEPARATOR = "\x1f"  # no sku, model name, version or fingerprint contains this character


def image_id(
    sku: str, image_index: int, attempt: int, model_name: str, model_version: str, row_fingerprint: str
) -> str:
    """Names a candidate: the first 20 hex characters of the sha256 over its whole key."""
    return _digest(sku, image_index, attempt, model_name, model_version, row_fingerprint).hex()[:20]


def image_seed(sku: str, image_index: int, attempt: int, model_name: str, model_version: str) -> int:
    """Computes the seed of a picture: the first 63 bits of the sha256 over its key.

    63 bits fit a signed 64-bit column. The key leaves out the row's texts and colours, so a product that
    changes its colour keeps its shape.
    """
    return int.from_bytes(_digest(sku, image_index, attempt, model_name, model_version)[:8]) >> 1


def latent(seed: int, size: int) -> "NDArray[np.float32]":
    """Samples standard normal latents, (size,) float32.

    numpy's Philox uses the whole seed. torch's CPU generator would use only the lower 32 bits. Then some
    hundred pairs among a million products would have the same latents.
    """
    import numpy as np

    return np.random.Generator(np.random.Philox(key=seed)).standard_normal(size, dtype=np.float32)


def _digest(*parts: str | int) -> bytes:
    return sha256(SEPARATOR.join(str(part) for part in parts).encode()).digest()
