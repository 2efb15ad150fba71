"""Generates pictures to measure a model, with seeds that no product of a catalog has."""

from collections.abc import Sequence

from toygan.artifact.model import GeneratedBatch, Model
from toygan.conditions.product import ProductConditions
from toygan.errors import ModelError
from toygan.seeds import image_seed


def generate_of_category(
    model: Model,
    purpose: str,
    category: str,
    products: Sequence[ProductConditions],
    numbers: range,
    batch_size: int,
) -> GeneratedBatch:
    """Generates one picture for each product with its number, at most `batch_size` pictures.

    Each `purpose` has its own seeds.

    Raises ModelError when a picture is not finite.
    """
    # A sku never contains a space, so these seeds differ from those of every product.
    seeds = [image_seed(f"{purpose} {category}", number, 0, model.name, "") for number in numbers]
    generated = model.generate(seeds, products, batch_size)
    if not generated.finite.all():
        raise ModelError(
            f"the model {model.name} returns NaN or infinity for {category}; take an earlier checkpoint"
        )
    return generated
