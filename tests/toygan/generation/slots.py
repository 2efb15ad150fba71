"""Slots of a plan, for tests that go without a catalog."""

from collections.abc import Sequence
from typing import Any

from tests.models import CATEGORIES, COLOURS
from toygan.planning.plan import Slot


def slot(number: int, **changes: Any) -> Slot:
    """The slot of a product of its own, in one of six colours."""
    content = {
        "row": number,
        "sku": f"sku-{number:04d}",
        "image_index": 0,
        "first_attempt": 0,
        "attempts": 4,
        "review_p_real": None,
        "category": CATEGORIES[0],
        "title": f"Product {number}",
        "description": None,
        "language": "en",
        "colour": None,
        "colour_hex": COLOURS[number % len(COLOURS)],
        "colour_source": "colour_hex",
        "finish": None,
        "attributes": {},
        "condition_sha256": {},
        "image_condition": None,
        "row_fingerprint": f"{number:064x}",
        "sibling_phashes": (),
    }
    return Slot(**{**content, **changes})


def slots(count: int, **changes: Any) -> Sequence[Slot]:
    return [slot(number, **changes) for number in range(count)]
