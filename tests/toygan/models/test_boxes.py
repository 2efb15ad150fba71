"""Sums and maxima of boxes, compared with torch's pooling."""

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from toygan.models.boxes import box_maximum, box_sum


@given(reach=st.integers(0, 17), height=st.integers(1, 20), width=st.integers(1, 20), seed=st.integers(0, 99))
def test_boxes_of_any_size_agree_with_pooling(reach: int, height: int, width: int, seed: int) -> None:
    x = torch.rand((2, 3, height, width), generator=torch.Generator().manual_seed(seed))
    side = 2 * reach + 1
    sums = F.avg_pool2d(F.pad(x, (reach,) * 4), side, stride=1) * side**2
    assert torch.allclose(box_sum(x, reach), sums, rtol=1e-4, atol=1e-5)
    assert torch.equal(box_maximum(x, reach), F.max_pool2d(F.pad(x, (reach,) * 4), side, stride=1))
