"""`toygan reproduce`: generates a picture again from its metadata row and compares the bytes."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from toygan.artifact.load import load_model
from toygan.artifact.model import (
    COLOUR_NAME,
    COLOUR_SOURCE,
    LAYOUT_SIMILARITY,
    SHAPE_TEXT,
    SNAPSHOT,
    Model,
)
from toygan.conditions.condition_types import ImageCondition
from toygan.conditions.image import READERS
from toygan.conditions.product import ProductConditions
from toygan.errors import BadInput, RunFailed
from toygan.images import encode
from toygan.planning.condition_files import read_kept
from toygan.planning.decisions import in_words, stored_decisions
from toygan.planning.finished import read_manifests, read_part_at_hand
from toygan.registry.models import resolve
from toygan.storage.store import ObjectStore

_THREADS = 8


def reproduce(store: ObjectStore, image_id: str, device: torch.device) -> str:
    """Generates the picture again. Returns a line that says that the bytes are the same as before.

    Raises BadInput for an id without a stored picture, and for a condition file that the store has lost.
    Raises ModelError if the model version is missing. Raises RunFailed if the bytes differ, as they may on
    another type of device.
    """
    row = _find_row(store, image_id)
    source = resolve(f"{row['model_name']}@{row['model_version']}", store)
    model = load_model(source, device)
    try:
        product = _product_of(row, _read_images(store, model, dict(row["condition_sha256"])))
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise BadInput(f"{image_id}: its row in the metadata is damaged ({error!r}); restore it") from error
    generated = model.generate([row["seed"]], [product], row["batch_size"])
    file = encode(generated.pixels[0], row["format"])
    if sha256(file).hexdigest() != row["sha256"]:
        raise RunFailed(
            f"{image_id}: the bytes differ from those of {row['image_uri']} when generated on {device} by "
            f"{model.engine}; the picture is of {row['engine']}"
        )
    decision = in_words(stored_decisions(store)).get(image_id)
    return f"{image_id}: the same {len(file)} bytes as {row['image_uri']}" + (
        f"; {decision}" if decision else ""
    )


def _product_of(
    row: Mapping[str, Any], images: Mapping[ImageCondition, NDArray[np.uint8]]
) -> ProductConditions:
    given = json.loads(row["conditions"])
    for name in (LAYOUT_SIMILARITY, SNAPSHOT):  # these are computed from the other conditions
        given.pop(name, None)
    for name in (COLOUR_NAME, COLOUR_SOURCE):  # these only say where colour_hex comes from
        given.pop(name, None)
    # the shape text is stored only if it differs from the text
    given.setdefault(SHAPE_TEXT, given.get("text"))
    return ProductConditions(**given).with_images(images)


def _read_images(
    store: ObjectStore, model: Model, digests: Mapping[str, str]
) -> dict[ImageCondition, NDArray[np.uint8]]:
    return {
        kind: READERS[kind](read_kept(store, digests[kind]), model.resolution)
        for kind in model.config.images_taken(digests)
    }


def _find_row(store: ObjectStore, image_id: str) -> dict[str, Any]:
    with ThreadPoolExecutor(_THREADS, "reproduce") as pool:
        manifests = read_manifests(store, pool)
    for manifest in manifests:
        for shard in range(manifest.shards):
            part = read_part_at_hand(store, manifest.run_id, shard)
            rows = part.filter(pc.equal(part["image_id"], image_id)).to_pylist() if part else []
            if rows and rows[0]["image_uri"] is not None:
                return dict(rows[0])
    raise BadInput(f"{image_id}: no finished run in {store.uri} stored a picture of this id")
