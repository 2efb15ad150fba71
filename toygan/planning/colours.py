"""Determines the main colours of planned products."""

from collections.abc import Mapping, Sequence

import pandas as pd

from toygan.conditions.condition_types import MAIN, ImageCondition, ModelRole
from toygan.conditions.main_colour import MainColours
from toygan.planning.live import Positions

_FIELDS = {"colour": "name", "colour_hex": "hex", "colour_source": "source"}


def with_main_colours(
    products: pd.DataFrame,
    image_conditions: Sequence[ImageCondition | None],
    chosen: Positions,
    colours: Mapping[ModelRole, MainColours],
) -> pd.DataFrame:
    """Adds name, value and source of the main colour to the products at the `chosen` positions.

    The colour names are those of the product's model, which `image_conditions` selects.
    """
    frame = products.assign(colour_source=None)
    rows = frame.iloc[chosen][["title", "colour", "colour_hex", "finish"]]
    # null may be None, NaN or NA
    texts = rows.astype(object).where(rows.notna(), None)
    found = [
        colours[image_conditions[position] or MAIN].find(
            title=title, colour=colour, colour_hex=colour_hex, finish=finish
        )
        for position, (title, colour, colour_hex, finish) in zip(
            chosen, texts.itertuples(index=False, name=None), strict=True
        )
    ]
    for column, name in _FIELDS.items():
        values = frame[column].astype(object).to_numpy(copy=True)
        values[chosen] = [getattr(each, name) for each in found]
        frame[column] = values
    return frame
