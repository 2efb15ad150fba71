"""The reasons why a candidate was not approved, in words for the people of a shop."""

from collections.abc import Mapping
from typing import Final

_WORDS: Final[Mapping[str, str]] = {
    "not_finite": "not a picture",
    "not_measurable": "could not be checked",
    "blank": "blank",
    "fill_ratio_low": "product too small",
    "fill_ratio_high": "product too large",
    "background_not_white": "background not white",
    "outline_lost": "outline not visible",
    "colours_mixed": "two colours in one area",
    "colour_off": "wrong colour",
    "colour_unknown": "main colour is not known",
    "shape_guessed": "shape is a guess",
    "product_not_found": "no product in the snapshot",
    "several_products": "several products in the snapshot",
    "product_cut_off": "product cut off in the snapshot",
    "product_unclear": "outline of the product is not clear",
    "differs_from_snapshot": "differs from the snapshot",
    "near_copy": "too like another picture",
    "score_below_threshold": "score too low",
}


def in_words(reason: str) -> str:
    """Returns a reason of a metadata row in words."""
    return _WORDS.get(reason, reason.replace("_", " "))
