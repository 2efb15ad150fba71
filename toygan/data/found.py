"""Counts the photos that are found for a purpose, so that the log can say which photos are left out."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from catalog_schemas.photos import SPLITS
from toygan.data.photo import Photo
from toygan.data.sources import read_photos
from toygan.errors import BadInput

log = logging.getLogger(__name__)

_MOST = 1000  # the largest number of photos of another split that are counted


class Found:
    """Iterates over the photos with a wanted sku, and counts the others."""

    def __init__(self, photos: Iterator[Photo], keep_sku: Callable[[str], bool]) -> None:
        self._photos = photos
        self._keep_sku = keep_sku
        self._unwanted: Counter[str] = Counter()  # by category
        self._taken: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()  # those of the wanted photos that cannot be used
        self._first_reason = ""

    def __iter__(self) -> Iterator[Photo]:
        for photo in self._photos:
            if self._keep_sku(photo.sku):
                self._taken[photo.category] += 1
                yield photo
            else:
                self._unwanted[photo.category] += 1

    def skip(self, photo: Photo, reason: BadInput) -> None:
        """Counts and logs a photo that cannot be used."""
        log.warning(
            "skipped the photo %s of the product %s in %s: %s",
            photo.photo_id,
            photo.sku,
            photo.source,
            reason,
        )
        self._skipped[photo.category] += 1
        self._first_reason = self._first_reason or f"{photo.photo_id}: {reason}"

    def say_what_is_left_out(self) -> None:
        """Logs how many photos cannot be used and which categories have no photos left.

        It must be called last.
        """
        if skipped := self._skipped.total():
            left = self._taken.total() - skipped
            log.warning("skipped %d photos that cannot be used; %d are left", skipped, left)
        for category in sorted({*self._taken, *self._unwanted}):
            if self._taken[category] > self._skipped[category]:
                continue
            whats = (
                (self._skipped, "cannot be used"),
                (self._unwanted, "are of products that another step uses"),
            )
            parts = [f"{counts[category]} {what}" for counts, what in whats if counts[category]]
            log.warning("the category %r has no photos left: of its photos %s", category, " and ".join(parts))

    def why_none(self, uri: str | Path, split: str) -> str:
        """Returns why no photo of `split` at `uri` is left, and what to do."""
        if self._skipped:
            return f"all {self._skipped.total()} were skipped, the first one {self._first_reason}"
        if self._unwanted:
            return (
                f"all {self._unwanted.total()} are of products that another step uses, since a tenth of the "
                "products is for calibration and the others are for training; add products"
            )
        others = [other for other in SPLITS if other != split]
        counts = [sum(1 for _ in islice(read_photos(uri, split=other), _MOST)) for other in others]
        found = " and ".join(
            f"{count} of split {other!r}" for other, count in zip(others, counts, strict=True) if count
        )
        if not found:
            return "there is no photo of any split; the log says what was left out"
        return (
            f"there are only {found}; all photos of a product are in one split, and a tenth of the products "
            "is in 'val', which is for measuring and not for training. Add products, or sort the photos of a "
            "folder into folders train/ and val/"
        )
