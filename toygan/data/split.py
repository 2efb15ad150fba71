"""Decides which products are for training, for calibration, and for measuring only (`val`).

For a data set with splits of its own, the data set decides about `val`. Otherwise a hash decides.
"""

from hashlib import sha256


def is_calibration_sku(sku: str) -> bool:
    """Returns whether a product is for calibration: for a tenth of all, sha256(sku) is 0 modulo 10."""
    return _digest(sku) % 10 == 0


def split_of_upload(sku: str) -> str:
    """Returns the split of a product, for uploads and other photos without a split.

    It is `val` for a tenth of the products, `train` for the others. The product is in `val` if the second
    last decimal digit of sha256(sku) is 0. A product may be both in `val` and for calibration; then `val`
    decides.
    """
    return "val" if _digest(sku) // 10 % 10 == 0 else "train"


def nothing_to_train_on(category: str, photos: int) -> str:
    """Returns the message for a category if `split_of_upload` puts all its photos into `val`."""
    return (
        f"the category {category!r} has nothing left to train on: its {photos} photos are of products that "
        "are for measuring only, as a tenth of all products are; add photos of other products"
    )


def _digest(sku: str) -> int:
    return int(sha256(sku.encode()).hexdigest(), 16)
