from math import sqrt

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from toygan.models.modulation import EqualisedConv2d, EqualisedLinear, ModulatedConv2d, normalise


def test_modulation_is_that_of_the_paper() -> None:
    """Scaling input and output is the same as scaling the weights of each picture (eq. 1 and 3)."""
    torch.manual_seed(0)
    layer = ModulatedConv2d(5, 7, 3, style_size=4)
    x, styles = torch.randn(2, 5, 6, 6), torch.randn(2, 4)
    result = layer(x, styles)
    weights = layer.convolution.weight / sqrt(5 * 9)
    for picture, style, found in zip(x, styles, result, strict=True):
        scaled = weights * layer.style(style[None])[0][None, :, None, None]
        scaled = scaled / (scaled.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        wanted = F.conv2d(picture[None], scaled, padding=1)[0]
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_demodulation_gives_unit_variance() -> None:
    """Whatever the styles: independent inputs of variance 1 come out with variance 1, but for the border."""
    torch.manual_seed(0)
    layer = ModulatedConv2d(16, 8, 3, style_size=4)
    x = torch.randn(4, 16, 64, 64)
    for strength in (0.1, 1.0, 10.0):
        result = layer(x, strength * torch.randn(4, 4))[:, :, 1:-1, 1:-1]
        spread = result.std(dim=(2, 3))
        torch.testing.assert_close(spread, torch.ones_like(spread), atol=0.1, rtol=0)


def test_equalised_layers_by_hand() -> None:
    """Weights of 1: 4 inputs of 1 with the gain 1 / sqrt(4) make 2, a 3 x 3 kernel on 4 channels 6."""
    linear, convolution = EqualisedLinear(4, 1, bias=0.5), EqualisedConv2d(4, 1, 3)
    slow = EqualisedLinear(4, 1, rate=0.01, bias=0.5)
    assert slow.weight.std() > 10  # drawn from N(0, 100^2), so that Adam's steps are 100 times smaller
    nn.init.ones_(linear.weight)
    nn.init.ones_(convolution.weight)
    nn.init.constant_(slow.weight, 100.0)
    assert linear(torch.ones(1, 4)).item() == pytest.approx(2.5)
    assert slow(torch.ones(1, 4)).item() == pytest.approx(2.5)
    assert convolution(torch.ones(1, 4, 3, 3))[0, 0, 1, 1].item() == pytest.approx(6.0)
    assert normalise(torch.tensor([[3.0, 4.0]])).tolist()[0] == pytest.approx([3 / 12.5**0.5, 4 / 12.5**0.5])
