"""Checks the measures of a picture against limits that come from real photos."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, get_args

import numpy as np

from toygan.approval.measures import Measures
from toygan.artifact.limits import CategoryLimits

Reason = Literal[
    "not_finite",
    "not_measurable",
    "blank",
    "fill_ratio_low",
    "fill_ratio_high",
    "background_not_white",
    "outline_lost",
    "colours_mixed",
    "colour_off",
    "colour_unknown",
    "shape_guessed",
    "product_not_found",
    "several_products",
    "product_cut_off",
    "product_unclear",
    "differs_from_snapshot",
    "near_copy",
    "score_below_threshold",
]
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)

LOW_PERCENTILE: Final = 1
HIGH_PERCENTILE: Final = 99
# The least share of a product's outline that a picture must show, in every category. White roofs vanish in
# photos, too: 5 % of the photos of cars show at most 0.75, and 5 % of those of towers at most 0.71. So a
# percentile would let such pictures pass. Most photos show the whole outline: in five of ten categories, 95 %
# of them.
LEAST_OUTLINE: Final = 0.85
# The largest share of a product that may have another colour than most of its area. Of 535 photos of ten
# categories two have more, both of animals.
MOST_MIXED: Final = 0.003
# A category with fewer photos takes the limits that are fitted to the photos of all categories.
FEWEST_PHOTOS: Final = 50

# Two pictures of one product are near-copies if their 64-bit hashes differ in at most this number of bits.
# The number was measured. Of 1,093 pairs of real photos that show one product from different camera angles,
# 4.8 % are near-copies, because round parts look alike from every angle. Of pairs of photos of different
# products of a category, 0.05 % are. A copy that was compressed again, or that has faint noise (standard
# deviation 2), is within 4 bits in 99 of 100 cases.
NEAR_COPY_DISTANCE: Final = 4

# A picture shows its product's shape if the product's text and the text of the chosen layout are at least
# this similar. The limit is the same in every category. Equal texts have the similarity 1; colours and
# finishes do not count. In the banks of the bundled models (1,014 texts), two different texts of a category
# have at most 0.995.
#
# A lower limit lets wrong shapes through. For 57 calibration products that are single parts, the likeliest
# layout has another text (similarity up to 0.995), and no such layout has the right part number. For 32
# figures, no such layout has the right hat and print.
#
# Silhouettes cannot give a limit either. From a similarity of 0.85 on, the silhouettes of the
# most similar other text agree with a photo 0.9 times as well as those of the product's own text. For wheels
# this holds at any similarity.
KNOWN_SHAPE_SIMILARITY: Final = 0.999

# The limit of CIEDE2000 for a category whose own limit is higher. Beyond it, everybody sees another colour.
# Limits that are fitted to photos can be higher, because products with many colours may have less than a
# quarter of the catalog's main colour.
ANOTHER_COLOUR: Final = 20.0


def fit_limits(photos: Mapping[str, Sequence[Measures]]) -> dict[str, CategoryLimits]:
    """Fits the limits of every category: the 1st and 99th percentiles of the measures of its real photos.

    The outline has the limit `LEAST_OUTLINE`, unless the shapes of all products are unknown.

    `photos` are all photos of the split `train`, including those for calibration, and none of the split
    `val`. A category with fewer than `FEWEST_PHOTOS` photos takes the limits of all photos. Raises ValueError
    if there is no photo.
    """
    everything = [measures for of_category in photos.values() for measures in of_category]
    if not everything:
        raise ValueError("limits need at least one photo")
    pooled = _limits(everything, None)
    return {
        category: _limits(of_category, pooled) if len(of_category) >= FEWEST_PHOTOS else pooled
        for category, of_category in sorted(photos.items())
    }


def check(measures: Measures, limits: CategoryLimits, layout_similarity: float | None = None) -> list[Reason]:
    """Returns the reasons against a finite picture, in the order of `REASONS`.

    A picture without reasons passes. If there is a limit for colours, a picture without a wanted colour does
    not pass. `layout_similarity`, -1..1, is the text similarity of the layout that the picture was generated
    from; None if the layout is not from a layout bank. Below `KNOWN_SHAPE_SIMILARITY` the picture may show
    another product's shape sharply, which no other check detects.
    """
    distance, farthest = measures.colour_delta_e, limits.colour_delta_e_max
    failed: dict[Reason, bool] = {
        "blank": measures.contrast < limits.contrast_min,
        "fill_ratio_low": measures.fill_ratio < limits.fill_ratio_min,
        "fill_ratio_high": measures.fill_ratio > limits.fill_ratio_max,
        "background_not_white": measures.background_white < limits.background_white_min,
        "outline_lost": measures.outline_seen is not None and measures.outline_seen < limits.outline_seen_min,
        "colours_mixed": measures.mixed_colours is not None and measures.mixed_colours > MOST_MIXED,
        "colour_off": distance is not None
        and farthest is not None
        and distance > min(farthest, ANOTHER_COLOUR),
        "colour_unknown": distance is None and farthest is not None,
        "shape_guessed": layout_similarity is not None and layout_similarity < KNOWN_SHAPE_SIMILARITY,
    }
    return [reason for reason, against in failed.items() if against]


def is_near_copy(phash: str, others: Iterable[str]) -> bool:
    """Says whether the hash `phash` (16 hex digits) differs by at most `NEAR_COPY_DISTANCE` bits from one of
    `others`.
    """
    value = int(phash, 16)
    return any((value ^ int(other, 16)).bit_count() <= NEAR_COPY_DISTANCE for other in others)


def _limits(photos: Sequence[Measures], pooled: CategoryLimits | None) -> CategoryLimits:
    distances = [photo.colour_delta_e for photo in photos if photo.colour_delta_e is not None]
    colour_limit = pooled.colour_delta_e_max if pooled else None
    if len(distances) >= (FEWEST_PHOTOS if pooled else 1):
        colour_limit = _percentile(distances, HIGH_PERCENTILE)
    fill = [photo.fill_ratio for photo in photos]
    is_known = any(photo.outline_seen is not None for photo in photos)
    return CategoryLimits(
        contrast_min=_percentile([photo.contrast for photo in photos], LOW_PERCENTILE),
        fill_ratio_min=_percentile(fill, LOW_PERCENTILE),
        fill_ratio_max=_percentile(fill, HIGH_PERCENTILE),
        background_white_min=_percentile([photo.background_white for photo in photos], LOW_PERCENTILE),
        colour_delta_e_max=colour_limit,
        outline_seen_min=LEAST_OUTLINE if is_known else 0.0,
    )


def _percentile(values: Sequence[float], percentile: int) -> float:
    return round(float(np.percentile(values, percentile)), 4)
