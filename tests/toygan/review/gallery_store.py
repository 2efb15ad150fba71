"""A store with real pictures to look at, without a model."""

from hashlib import sha256
from typing import Any

import numpy as np

from catalog_schemas.images import APPROVED, REVIEW
from tests.toygan.generation.runs import put_manifest, put_part
from tests.toygan.review.shop import SETTINGS, picture
from toygan.images import encode
from toygan.planning.finished import Parts
from toygan.publishing.commit import make_live
from toygan.publishing.commit_log import reserve
from toygan.storage.store import ObjectStore


def fill(store: ObjectStore, candidates: int, *, live: int = 2, side: int = 64) -> list[dict[str, Any]]:
    """Stores `live` approved pictures and `candidates` for review; returns the rows of the candidates."""
    rows, run_id = [], "run-1"
    for number in range(live + candidates):
        decision = APPROVED if number < live else REVIEW
        pixels = np.full((side, side, 3), 255, np.uint8)
        pixels[side // 4 : -side // 4, side // 4 : -side // 4] = (number * 37 % 256, number * 11 % 256, 90)
        file = encode(pixels, "webp")
        row = picture(number, run_id, decision, p_real=(number + 1) / (live + candidates + 1))
        row |= {"title": f"Toy {number}", "width": side, "height": side, "format": "webp", "bytes": len(file)}
        row["conditions"] = '{"colour_hex": "#B40000"}'
        row["sha256"] = sha256(file).hexdigest()
        store.put(row["image_uri"], file)
        rows.append(row)
    put_part(store, run_id, rows)
    manifest = put_manifest(store, run_id, SETTINGS, commit=reserve(store, run_id))
    make_live(store, manifest, Parts(store, run_id, 1))
    return rows[live:]
