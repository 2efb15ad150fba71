"""The products that a model can generate."""

from dataclasses import dataclass

from toygan.conditions.colour_names import NO_COLOUR_NAMES, ColourNames


@dataclass(frozen=True, kw_only=True)
class ModelScope:
    """The products that a model of a run can generate."""

    categories: frozenset[str]
    layout_classes: int = 256  # the labels in a layout are less than this
    colour_names: ColourNames = NO_COLOUR_NAMES  # the colour names in the model's training photos
