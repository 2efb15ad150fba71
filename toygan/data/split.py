"""Which products train, which calibrate. `val` is only measured on: the data set it, or else a hash does."""

from hashlib import sha256


def is_calibration_sku(sku: str) -> bool:
    """True for the tenth of the products whose photos calibrate the score: sha256(sku) is 0 modulo 10."""
    return _digest(sku) % 10 == 0


def split_of_upload(sku: str) -> str:
    """`val` for a tenth of the products, else `train`: for uploads, and other photos that nobody split.

    A product's photos are never in both. It is `val` when the digit before the last of sha256(sku) is 0: the
    tenth is another than the one that calibrates, the two have a hundredth of all products in common.
    """
    return "val" if _digest(sku) // 10 % 10 == 0 else "train"


def nothing_to_train_on(category: str, photos: int) -> str:
    """Says of a category that `split_of_upload` puts all of its photos into `val`."""
    return (
        f"the category {category!r} has nothing left to train on: its {photos} photos are of products that "
        "are only measured on, as a tenth of all products is; add photos of other products"
    )


def _digest(sku: str) -> int:
    return int(sha256(sku.encode()).hexdigest(), 16)
