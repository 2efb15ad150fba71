"""The metadata row of a candidate."""

import json
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from catalog_schemas.images import IMAGES, REJECTED
from toygan.artifact.model import (
    COLOUR_NAME,
    COLOUR_SOURCE,
    LAYOUT_SIMILARITY,
    SHAPE_TEXT,
    SNAPSHOT,
    Model,
)
from toygan.artifact.product_finder import FramedSnapshot
from toygan.conditions.product import ProductConditions
from toygan.planning.plan import Slot
from toygan.seeds import image_id
from toygan.xmp import DIGITAL_SOURCE_TYPE

PIPELINE_VERSION = version("toygan")


def undecided_row(
    slot: Slot,
    given: ProductConditions,
    model: Model,
    *,
    attempt: int,
    seed: int,
    layout_similarity: float | None,
    snapshot: FramedSnapshot | None,
) -> dict[str, Any]:
    """Returns the metadata of an undecided candidate: all columns except those of run, scores, threshold and
    file.
    """
    identity = image_id(slot.sku, slot.image_index, attempt, model.name, model.version, slot.row_fingerprint)
    return dict.fromkeys(IMAGES.names) | {
        "image_id": identity,
        "sku": slot.sku,
        "image_index": slot.image_index,
        "category": slot.category,
        "title": slot.title,
        "language": slot.language,
        "colour": slot.colour,
        "handle": slot.attributes.get("handle"),
        "decision": REJECTED,
        "model_name": model.name,
        "model_version": model.version,
        "model_family": model.family,
        "seed": seed,
        "attempt": attempt,
        "engine": model.engine,
        "truncation": model.truncation,
        "conditions": _conditions(slot, given, model, layout_similarity, snapshot),
        "condition_sha256": {
            kind: slot.condition_sha256[kind] for kind in model.config.images_taken(slot.condition_sha256)
        },
        "row_fingerprint": slot.row_fingerprint,
        "generated_at": datetime.now(UTC),
        "pipeline_version": PIPELINE_VERSION,
        "digital_source_type": DIGITAL_SOURCE_TYPE,
    }


def _conditions(
    slot: Slot,
    given: ProductConditions,
    model: Model,
    layout_similarity: float | None,
    snapshot: FramedSnapshot | None,
) -> str:
    """Returns what the picture was generated from, as canonical JSON."""
    conditions: dict[str, object] = {"category": given.category, "colour_hex": given.colour_hex}
    conditions[COLOUR_SOURCE] = slot.colour_source
    if slot.colour is not None:
        conditions[COLOUR_NAME] = slot.colour
    if model.text_encoder is not None:
        conditions["text"] = given.text
    if model.layout_bank is not None and (text := model.layout_bank.text_of(given)) != given.text:
        conditions[SHAPE_TEXT] = text
    if given.accent_hexes:
        conditions["accent_hexes"] = list(given.accent_hexes)
    if layout_similarity is not None:
        conditions[LAYOUT_SIMILARITY] = layout_similarity
    if snapshot is not None:
        conditions[SNAPSHOT] = snapshot.notes
    return json.dumps(conditions, sort_keys=True, separators=(",", ":"))
