"""Fits the colour profile of a model: see `toygan.approval.colour_profile`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from toygan.approval.colour_profile import colour_profile_of
from toygan.approval.measures import Measures, measure
from toygan.artifact.colour_profile import ColourProfile
from toygan.artifact.model import Model
from toygan.calibration.sampling import generate_of_category
from toygan.conditions.product import ProductConditions
from toygan.data.photos import PhotoSet
from toygan.progress import Progress

PROFILED_PER_CATEGORY: Final = 128


def fit_profile(
    model: Model, photos: PhotoSet, batch_size: int, *, pictures: int = PROFILED_PER_CATEGORY
) -> ColourProfile | None:
    """Fits a colour shift for each category and keeps the shifts that reduce the median colour error.

    Each shift is fitted to `pictures` pictures. It is tested on the same number of other pictures. These are
    generated twice from the same seeds, with the shift and without it. The conditions come from the photos
    that have a colour. An earlier colour profile of the model is not used. Returns None if no shift helps,
    for example if the networks ignore colours. Raises ModelError if the model returns NaN or infinity.
    """
    numbers = range(2 * pictures)
    fitted_to, tried_on = numbers[::2], numbers[1::2]
    products = _products(photos, len(numbers))
    total = 3 * pictures * len(products)
    with Progress(total=total, unit="pictures", description="profiling colours") as progress:
        measured = partial(_measure, products=products, batch_size=batch_size, on_batch=progress.advance)
        profile = _fit(products, measured(model, numbers=fitted_to), fitted_to)
        before = measured(model, numbers=tried_on)
        after = measured(replace(model, colour_profile=profile), numbers=tried_on)
    errors = {name: (_median_error(before[name]), _median_error(after[name])) for name in products}
    helped = {name: pair for name, pair in errors.items() if pair[1] < pair[0]}
    if not helped:
        return None
    return profile.of(helped)


def _products(photos: PhotoSet, count: int) -> dict[str, list[ProductConditions]]:
    """Returns `count` products for each category, spread evenly over its photos with a colour.

    Categories without such photos are left out.
    """
    products = {}
    for index, name in enumerate(photos.categories):
        if rows := [row for row in photos.of_category(index) if photos.colour_hexes[row] is not None]:
            chosen = [rows[number * len(rows) // count] for number in range(count)]
            products[name] = [photos.product(row) for row in chosen]
    return products


def _measure(
    model: Model,
    *,
    products: Mapping[str, Sequence[ProductConditions]],
    numbers: range,
    batch_size: int,
    on_batch: Callable[[int], None],
) -> dict[str, list[Measures]]:
    """Generates and measures one picture for each number and category."""
    measured: dict[str, list[Measures]] = {name: [] for name in products}
    for name, of_category in products.items():
        for first in range(0, len(numbers), batch_size):
            batch = numbers[first : first + batch_size]
            wanted = [of_category[number] for number in batch]
            generated = generate_of_category(model, "colours", name, wanted, batch, batch_size)
            measured[name] += measure(generated.pixels, [product.colour_hex for product in wanted])
            on_batch(len(batch))
    return measured


def _fit(
    products: Mapping[str, Sequence[ProductConditions]],
    measured: Mapping[str, Sequence[Measures]],
    numbers: range,
) -> ColourProfile:
    pairs = {}
    for name, of_category in products.items():
        given = [of_category[number].colour_hex for number in numbers]
        shown = [each.main_colour for each in measured[name]]
        pairs[name] = [(one, other) for one, other in zip(given, shown, strict=True) if one is not None]
    return colour_profile_of(pairs)


def _median_error(measured: Sequence[Measures]) -> float:
    """Returns the median CIEDE2000 distance to the given colours; every product must have a colour."""
    return round(float(np.median([each.colour_delta_e for each in measured])), 4)
