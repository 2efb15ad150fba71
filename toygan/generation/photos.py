"""Photos as a model was trained on them: its size, its categories, what it draws from, what it reads."""

from collections.abc import Callable
from pathlib import Path

from toygan.data.photo import WantedConditions
from toygan.data.photos import PhotoSet, load_photos
from toygan.generation.model import Model


def photos_of(
    model: Model, uri: str | Path, *, split: str, keep_sku: Callable[[str], bool] = lambda sku: True
) -> PhotoSet:
    """The photos of `split` at `uri`, to compare the model's pictures with; raises as `load_photos` does."""
    return load_photos(
        uri,
        resolution=model.resolution,
        split=split,
        keep_sku=keep_sku,
        categories=model.categories,
        drawings=WantedConditions(kind=model.learns_from, lines=model.learns_from_lines),
        layout_predictor=model.layout_predictor,
        text_config=model.text_config,
    )
