"""Categories of uploaded photos that the champion does not know yet.

Their photos wait in the quarantine. When NEW_CATEGORY_PHOTOS of them can be used for training, they are
indexed, and the next retraining learns the category: the model gets one more category, and the others keep
their weights.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Final

from toygan.data.split import is_calibration_sku, split_of_upload
from toygan.errors import BadInput
from toygan.storage.keys import PHOTOS_PREFIX
from toygan.uploads.inspection import parse_photo_key

NEW_CATEGORY_PHOTOS: Final = 20
UNKNOWN_CATEGORY: Final = "unknown category "  # how the reason of a waiting photo begins


def photos_to_learn_from(keys: Iterable[str], known: Collection[str]) -> Counter[str]:
    """Counts the training photos among the uploads with these keys, for each category not in `known`.

    A fifth of the products is held out for calibration and measuring; their photos do not count.
    """
    counts: Counter[str] = Counter()
    for key in keys:
        if key.removeprefix(PHOTOS_PREFIX).partition("/")[0] in known:
            continue
        try:
            category, sku = parse_photo_key(key)
        except BadInput:
            continue
        counts[category] += split_of_upload(sku) == "train" and not is_calibration_sku(sku)
    return counts


def learnable(counts: Counter[str]) -> frozenset[str]:
    """Returns the categories that the next retraining learns."""
    return frozenset(name for name, count in counts.items() if count >= NEW_CATEGORY_PHOTOS)


def so_far(category: str, counts: Counter[str]) -> str:
    """Returns one line for a person."""
    return (
        f"category {category!r} unknown to the model, {counts[category]} of {NEW_CATEGORY_PHOTOS} photos so "
        "far; with all of them the next retraining learns it"
    )
