"""The types of condition images that a picture can be generated from."""

from typing import Final, Literal

ImageCondition = Literal["sketch", "layout", "photo"]
# The roles of a run's models. The other models each generate the products with their image condition; "main"
# generates the remaining products.
ModelRole = Literal["main", "sketch", "layout", "photo"]
MAIN: Final[ModelRole] = "main"

# A product is generated from the last type in this list that the product has and a model takes.
BY_PRECEDENCE: Final[tuple[ImageCondition, ...]] = ("sketch", "layout", "photo")
# A product that has all of these is generated from all of them, if the main model takes layouts and lines.
DRAWINGS: Final[tuple[ImageCondition, ...]] = ("layout", "sketch")
BACKGROUND: Final = 0  # the layout label of pixels without a product
