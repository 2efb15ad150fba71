"""The products that a model supports."""

from dataclasses import dataclass

from toygan.conditions.colour_names import NO_COLOUR_NAMES, ColourNames


@dataclass(frozen=True, kw_only=True)
class ModelScope:
    """The products that one of a run's models supports."""

    categories: frozenset[str]
    layout_classes: int = 256  # labels that a layout may hold, from 0
    colour_names: ColourNames = NO_COLOUR_NAMES  # the colour names in the model's training photos
