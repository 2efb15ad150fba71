"""Finds the categories of uploaded photos that the champion does not have yet.

The photos of a new category wait in the quarantine. When NEW_CATEGORY_PHOTOS of them can be used for
training, they are indexed, and the next retraining learns the category. The model gets one more category; the
weights of the other categories are kept.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Final

from toygan.data.split import is_calibration_sku, split_of_upload
from toygan.errors import BadInput
from toygan.storage.keys import NAME, NAME_RULE, PHOTOS_PREFIX
from toygan.uploads.inspection import parse_photo_key

NEW_CATEGORY_PHOTOS: Final = 20
UNKNOWN_CATEGORY: Final = "unknown category "  # the beginning of a waiting photo's reason


def photos_to_learn_from(keys: Iterable[str], known: Collection[str]) -> Counter[str]:
    """Counts the training photos among the uploads with these keys, for each category not in `known`.

    A fifth of the products is held out for calibration and measuring. Photos of these do not count.
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
    """Returns the categories with enough photos, which the next retraining learns."""
    return frozenset(name for name, count in counts.items() if count >= NEW_CATEGORY_PHOTOS)


def so_far(category: str, counts: Counter[str]) -> str:
    """Returns a line about a category, with the number of its photos and the number that a model needs to
    learn it.

    If no folder can have the category's name, no photo can be uploaded, so the line says what to do instead.
    """
    if not NAME.fullmatch(category):
        return (
            f"category {category!r} unknown to the model, and its photos cannot be uploaded, because the "
            f"name of a folder below {PHOTOS_PREFIX} must be {NAME_RULE}; train a model with `toygan train` "
            "from photo shards that have the category"
        )
    return (
        f"category {category!r} unknown to the model, {counts[category]} of {NEW_CATEGORY_PHOTOS} photos so "
        f"far; with {NEW_CATEGORY_PHOTOS} the next retraining learns the category"
    )
