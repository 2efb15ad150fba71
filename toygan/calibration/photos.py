"""Loads photos in the way that a model was trained on them: resolution, categories, conditions, texts."""

from collections.abc import Callable
from pathlib import Path

from toygan.artifact.model import Model
from toygan.data.photo import WantedConditions
from toygan.data.photos import PhotoSet, load_photos


def photos_of(
    model: Model,
    uri: str | Path,
    *,
    split: str,
    keep_sku: Callable[[str], bool] = lambda sku: True,
    as_files: bool = False,
) -> PhotoSet:
    """Loads the photos of `split` at `uri` to compare pictures of the model with; raises as `load_photos`.

    With `as_files`, it keeps layouts and lines as files, too, for a layout bank.
    """
    return load_photos(
        uri,
        resolution=model.resolution,
        split=split,
        keep_sku=keep_sku,
        categories=model.categories,
        drawings=WantedConditions(
            kind=model.learns_from,
            lines=model.learns_from_lines,
            as_files=as_files,
            predictor=model.layout_predictor,
        ),
        text_config=model.text_config,
    )
