"""The products that a model can generate."""

from dataclasses import dataclass

from toygan.conditions.colour_names import NO_COLOUR_NAMES, ColourNames


@dataclass(frozen=True, kw_only=True)
class ModelScope:
    """Describes the products that a model of a run can generate."""

    categories: frozenset[str]
    layout_classes: int = 256  # layout labels are smaller than this
    takes_drawings: bool = False  # whether layout and sketch are used together where a product has both
    colour_names: ColourNames = NO_COLOUR_NAMES  # the colour names in the model's training photos
