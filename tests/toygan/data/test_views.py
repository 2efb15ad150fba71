import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toygan.data.views import encode_views

angles = st.none() | st.floats(-179, 179)


def test_views_are_the_normal_scores_of_ranks() -> None:
    """Three azimuths and their mirror images have the ranks -30, -10, -10, 10, 10, 30."""
    views = encode_views([10.0, -10.0, 30.0, None], [20.0, 15.0, 25.0, 30.0])
    middle, end = 0.430727, 1.382994  # quantiles of 4/6 and 11/12
    assert views[:3, 0].tolist() == pytest.approx([middle, -middle, end], abs=1e-6)
    assert math.isnan(views[3, 0])
    low = 1.150349  # of 7/8
    inner = 0.318639  # of 5/8
    assert views[:, 1].tolist() == pytest.approx([-inner, -low, inner, low], abs=1e-6)


@settings(deadline=None)
@given(st.lists(st.tuples(angles, angles)))
def test_mirrored_azimuths_have_the_opposite_scores(found: list[tuple[float | None, float | None]]) -> None:
    azimuths, elevations = [each for each, _ in found], [each for _, each in found]
    views = encode_views(azimuths, elevations)
    mirrored = encode_views([None if each is None else -each for each in azimuths], elevations)
    torch.testing.assert_close(mirrored[:, 0], -views[:, 0], equal_nan=True)
    assert torch.equal(
        views.isnan(), torch.tensor([[each is None for each in row] for row in found]).view(-1, 2)
    )
    assert views.nan_to_num().isfinite().all()
    assert torch.equal(mirrored[:, 1].nan_to_num(), views[:, 1].nan_to_num())


def test_a_whole_turn_changes_nothing() -> None:
    turned, usual = (encode_views(each, [0.0] * 3) for each in ([350.0, 10.0, 200.0], [-10.0, 10.0, -160.0]))
    assert torch.equal(turned, usual)
