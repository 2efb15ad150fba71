"""The category of a product as a tensor."""

from collections.abc import Sequence

import torch
from torch import Tensor

from toygan.errors import BadInput


def encode_categories(names: Sequence[str], categories: Sequence[str]) -> Tensor:
    """Encodes names as (B,) int64 indices into `categories`. Raises BadInput for any other name."""
    index = {name: position for position, name in enumerate(categories)}
    unknown = sorted(set(names) - index.keys())
    if unknown:
        raise BadInput(f"no model for the categories {', '.join(unknown)}; known are {', '.join(categories)}")
    return torch.tensor([index[name] for name in names], dtype=torch.int64)
