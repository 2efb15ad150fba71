"""The layers of generators with styles: equalised learning rates, and modulated convolutions.

Sources: Karras et al. 2018, "Progressive Growing of GANs", and Karras et al. 2020, "Analyzing and Improving
the Image Quality of StyleGAN". These layers need no compiled extension. Modulation scales the input of a
plain convolution, demodulation scales its output. The result is the same as with scaled weights (section 2.2
of the latter paper), but no grouped convolution is needed.
"""

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EqualisedLinear(nn.Module):
    """A linear layer whose weights start from N(0, 1) and are scaled when they are used.

    Adam's steps have about the same size for all weights, so all layers change at the same relative speed.
    Source: Karras et al. 2018, section 4.1.
    """

    def __init__(self, inputs: int, outputs: int, *, rate: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.gain = rate / sqrt(inputs)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, inputs) to (B, outputs)."""
        return F.linear(x, self.weight * self.gain, self.bias * self.rate)


class EqualisedConv2d(nn.Module):
    """A convolution that keeps the side in pixels. Its weights are scaled like those of `EqualisedLinear`."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.gain = 1 / sqrt(inputs * kernel_size**2)
        self.padding = kernel_size // 2

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) to (B, outputs, H, W)."""
        return F.conv2d(x, self.weight * self.gain, self.bias, padding=self.padding)


class ModulatedConv2d(nn.Module):
    """A modulated convolution: Karras et al. 2020, eq. 1 and 3, applied to input and output instead of to the
    weights.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel_size: int, style_size: int, *, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.convolution = EqualisedConv2d(inputs, outputs, kernel_size, bias=False)
        self.style = EqualisedLinear(style_size, inputs, bias=1.0)
        self.demodulate = demodulate

    def forward(self, x: Tensor, styles: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) and (B, style_size) to (B, outputs, H, W)."""
        scales = self.style(styles)
        x = self.convolution(x * scales[:, :, None, None].to(x.dtype))
        if not self.demodulate:
            return x
        with torch.autocast(x.device.type, enabled=False):
            # The sums of (scale * weight)^2 over inputs and kernel, computed without the scaled weights.
            squares = (self.convolution.weight * self.convolution.gain).square().sum(dim=(2, 3))
            factors = torch.rsqrt(scales.float().square() @ squares.T + 1e-8)
        return x * factors[:, :, None, None].to(x.dtype)


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU, scaled by sqrt(2) so that the output has about the same variance as the input."""
    return F.leaky_relu(x, 0.2) * sqrt(2)


def normalise(x: Tensor) -> Tensor:
    """Scales each row of (B, N) to a mean square of 1."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


def enlarge(x: Tensor) -> Tensor:
    """Doubles the side by bilinear interpolation, which is the paper's filter [1, 3, 3, 1]."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
