"""The main colours of products that are planned."""

from collections.abc import Mapping, Sequence

import pandas as pd

from toygan.conditions.condition_types import ImageCondition
from toygan.conditions.main_colour import MainColours
from toygan.planning.live import Positions

_FIELDS = {"colour": "name", "colour_hex": "hex", "colour_source": "source"}


def with_main_colours(
    products: pd.DataFrame,
    image_conditions: Sequence[ImageCondition | None],
    chosen: Positions,
    colours: Mapping[ImageCondition | None, MainColours],
) -> pd.DataFrame:
    """N products with name, value and source of the main colour of those at the `chosen` positions.

    Each by the names that the model knows which draws it: `image_conditions` says by what it is drawn.
    """
    frame = products.assign(colour_source=None)
    rows = frame.iloc[chosen][["title", "colour", "colour_hex", "finish"]]
    # null is None, NaN or NA
    said = rows.astype(object).where(rows.notna(), None)
    found = [
        colours[image_conditions[position]].find(
            title=title, colour=colour, colour_hex=colour_hex, finish=finish
        )
        for position, (title, colour, colour_hex, finish) in zip(
            chosen, said.itertuples(index=False, name=None), strict=True
        )
    ]
    for column, name in _FIELDS.items():
        values = frame[column].astype(object).to_numpy(copy=True)
        values[chosen] = [getattr(each, name) for each in found]
        frame[column] = values
    return frame
