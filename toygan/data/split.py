"""Decides which products train, calibrate, or only measure (`val`, by the data set or by a hash)."""

from hashlib import sha256


def is_calibration_sku(sku: str) -> bool:
    """Returns True for the tenth of the products that calibrates the score: sha256(sku) is 0 modulo 10."""
    return _digest(sku) % 10 == 0


def split_of_upload(sku: str) -> str:
    """Returns `val` for a tenth of the products, else `train`, for uploads and other photos without a split.

    All photos of a product are in one split: `val` if the last but one decimal digit of sha256(sku) is 0.
    This tenth and the tenth that calibrates share a hundredth of all products.
    """
    return "val" if _digest(sku) // 10 % 10 == 0 else "train"


def nothing_to_train_on(category: str, photos: int) -> str:
    """Returns the message for a category with all photos in `val` by `split_of_upload`."""
    return (
        f"the category {category!r} has nothing left to train on: its {photos} photos are of products that "
        "are only measured on, as a tenth of all products is; add photos of other products"
    )


def _digest(sku: str) -> int:
    return int(sha256(sku.encode()).hexdigest(), 16)
