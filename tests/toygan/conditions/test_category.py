import pytest
import torch

from toygan.conditions.category import encode_categories
from toygan.errors import BadInput


def test_names_become_positions() -> None:
    encoded = encode_categories(["car", "brick", "car"], ("brick", "car"))
    assert encoded.dtype == torch.int64
    assert encoded.tolist() == [1, 0, 1]


def test_unknown_names_are_named() -> None:
    with pytest.raises(BadInput, match=r"no model for the categories tree, ufo; known are brick, car"):
        encode_categories(["ufo", "car", "tree"], ("brick", "car"))
