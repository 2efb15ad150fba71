"""Pictures of no product, which a model is measured by."""

from collections.abc import Sequence

from toygan.conditions.product import ProductConditions
from toygan.errors import ModelError
from toygan.generation.model import GeneratedBatch, Model
from toygan.seeds import image_seed


def generate_of_category(
    model: Model,
    purpose: str,
    category: str,
    products: Sequence[ProductConditions],
    numbers: range,
    batch_size: int,
) -> GeneratedBatch:
    """A picture a product and number, at most `batch_size`; each purpose has seeds of its own.

    Raises ModelError where one is not finite.
    """
    # No sku holds a space, so these pictures are of no product.
    seeds = [image_seed(f"{purpose} {category}", number, 0, model.name, "") for number in numbers]
    drawn = model.generate(seeds, products, batch_size)
    if not drawn.finite.all():
        raise ModelError(
            f"the model {model.name} returns NaN or infinity for {category}; take an earlier checkpoint"
        )
    return drawn
