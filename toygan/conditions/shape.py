"""The shape of a product in a picture, as far as it is known.

This module does not import torch, so that a process that checks pictures starts fast.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Shape(NamedTuple):
    """Where a picture should show the product, and the lines of its sketch."""

    product: NDArray[np.bool_]  # (S, S), True for the product's pixels
    # (S, S), False for the lines of the sketch; None with a layout, which gives the colours
    paper: NDArray[np.bool_] | None
