"""Categories that people upload photos of before the model knows them.

Photos of a category that the champion does not know wait in the quarantine. Once NEW_CATEGORY_PHOTOS of them
are there to learn from, they are indexed, and the next retraining learns the category: its classes grow, and
the others keep what they know.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Final

from toygan.data.split import is_calibration_sku, split_of_upload
from toygan.errors import BadInput
from toygan.storage.keys import PHOTOS_PREFIX
from toygan.uploads.inspection import parse_photo_key

NEW_CATEGORY_PHOTOS: Final = 20
UNKNOWN_CATEGORY: Final = "unknown category "  # begins the reason of a photo that waits


def photos_to_learn_from(keys: Iterable[str], known: Collection[str]) -> Counter[str]:
    """How many of the uploads with these keys a retraining could learn from, by category that is not known.

    A fifth of the products is held out, to calibrate and to measure with; their photos do not count.
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
    """Those that the next retraining learns."""
    return frozenset(name for name, count in counts.items() if count >= NEW_CATEGORY_PHOTOS)


def so_far(category: str, counts: Counter[str]) -> str:
    """One line for a person."""
    return (
        f"category {category!r} unknown to the model, {counts[category]} of {NEW_CATEGORY_PHOTOS} photos so "
        "far; with all of them the next retraining learns it"
    )
