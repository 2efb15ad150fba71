import torch
from torch import Tensor

from toygan.models.bands import detail_bands, fine_detail


def across(*values: float) -> Tensor:
    """A picture (1, 1, 16, 16) whose rows repeat `values`."""
    return torch.tensor(values).repeat(16 // len(values)).expand(1, 1, 16, 16).contiguous()


def strengths(picture: Tensor) -> list[float]:
    return [round(each.abs().max().item(), 6) for each in detail_bands(picture)]


def test_each_octave_gets_smaller_by_the_reach_of_its_filters() -> None:
    sides = [each.shape[2:] for each in detail_bands(torch.rand(1, 3, 16, 20))]
    assert sides == [(14, 18)] * 3 + [(10, 14)] * 3


def test_stripes_of_two_pixels_are_in_the_first_octave_alone() -> None:
    picture = across(0.5, -0.5)
    assert strengths(picture) == [0.5, 0, 0, 0, 0, 0]
    assert strengths(picture.mT) == [0, 0.5, 0, 0, 0, 0]
    assert strengths(picture * picture.mT) == [0, 0, 0.25, 0, 0, 0]


def test_stripes_of_four_pixels_are_half_in_each_octave() -> None:
    """The mean of both neighbours is 0, so both filters halve them. Two pixels on they are negated."""
    assert strengths(across(1, 0, -1, 0)) == [0.5, 0, 0, 0.5, 0, 0]


def test_even_colours_and_ramps_have_no_detail() -> None:
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    assert strengths(ramp + 2 * ramp.mT + 7) == [0] * 6
    assert not fine_detail(torch.full((1, 3, 8, 8), 0.5)).any()


def test_the_bands_add_up_to_the_fine_detail() -> None:
    picture = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    bands = detail_bands(picture)
    inner = torch.stack([*(each[..., 2:-2, 2:-2] for each in bands[:3]), *bands[3:]])
    torch.testing.assert_close(fine_detail(picture)[..., 3:-3, 3:-3], inner.sum(dim=0))
