"""Pictures of a tiny model, for people to decide about."""

from typing import Any

import numpy as np

from tests.models import TinyFiles
from tests.toygan.review.shop import commit, picture
from toygan.images import encode
from toygan.storage.store import ObjectStore

FEATURES = 320  # of a probe
PIXELS = 32


def put_night(store: ObjectStore, model: TinyFiles, logits: list[float], **changes: Any) -> list[str]:
    """Stores a night with a picture for each logit, even ones red, odd ones blue; returns the ids."""
    rows = []
    for number, logit in enumerate(logits):
        made = {"model_name": model.name, "model_version": model.version, "logit": logit}
        rows.append(picture(number, "run-1", **(made | changes)))
    commit(store, "run-1", *rows)
    for number, row in enumerate(rows):
        pixels = np.full((PIXELS, PIXELS, 3), 255, np.uint8)
        pixels[8 + number % 3 : 24, 8:24] = (200, 10, 10) if number % 2 == 0 else (10, 10, 200)
        file = encode(pixels, "webp")
        store.put(row["image_uri"], file)
    return [row["image_id"] for row in rows]
