"""Loads photos as in a model's training: with the same resolution, categories, conditions and texts."""

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
    """Loads the photos of `split` at `uri` for a comparison with pictures of the model.

    With `as_files`, layouts and lines are kept as files, too, for a layout bank. Raises as `load_photos`.
    """
    predictor = model.layout_predictor
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
            predictor=None if predictor is None else predictor.at(model.generated_resolution),
            finder=model.product_finder,
        ),
        text_config=model.text_config,
    )
