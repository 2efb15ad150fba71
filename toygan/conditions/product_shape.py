"""The shape of a product, as its layout or its line drawing shows it."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from toygan.conditions.condition_types import BACKGROUND
from toygan.conditions.shape import Shape

SHAPE_SIDE: Final = 128  # pixels
# Brighter pixels, -1..1, are paper: the limit of `toygan.models.regions`. A thin line becomes pale when it is
# shrunk.
PALEST_LINE: Final = 0.8


def product_shapes(conditions: Mapping[str, Tensor]) -> list[Shape | None]:
    """Returns the shape of each of B products, with sides of `SHAPE_SIDE`.

    `category` is (B,) int64, `layout` (B, H, H) int64, `sketch` (B, 1, H, H) float32 in [-1, 1]. Without
    layouts and sketches, all B values are None. A layout says more than a line drawing, so it is preferred.
    In a line drawing, everything belongs to the product that no paper connects to the border.
    """
    if "layout" in conditions:
        products = _shrunk((conditions["layout"] != BACKGROUND).float().cpu()) > 0.5
        return [Shape(product=product, paper=None) for product in products.numpy()]
    if "sketch" not in conditions:
        return [None] * len(conditions["category"])
    sketches = conditions["sketch"][:, 0].cpu()
    shown = np.stack([_enclosed(paper) for paper in (sketches >= 0).numpy()])
    products = _shrunk(torch.from_numpy(shown).float()) > 0.5
    papers = (_shrunk(sketches) > PALEST_LINE).numpy()
    return [Shape(*both) for both in zip(products.numpy(), papers, strict=True)]


def _shrunk(images: Tensor) -> Tensor:
    return F.interpolate(images[:, None], size=SHAPE_SIDE, mode="area")[:, 0]


def _enclosed(paper: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy.ndimage import label  # slow to import

    areas, _ = label(paper)
    border = np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]])
    return np.asarray(~paper | ~np.isin(areas, border[border > 0]))
