"""Spectral normalisation of layers: Miyato et al. 2018."""

from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class _SpectralNorm(parametrizations._SpectralNorm):
    """Torch's spectral normalisation, except that it does nothing on the device `meta`.

    On that device networks have only shapes, but torch would still compute power iterations, for half a
    second per discriminator.
    """

    def _power_method(self, weight_mat: torch.Tensor, n_power_iterations: int) -> None:
        if not weight_mat.is_meta:
            super()._power_method(weight_mat, n_power_iterations)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        normalised: torch.Tensor = weight if weight.is_meta else super().forward(weight)
        return normalised


def spectral_norm(layer: Layer) -> Layer:
    """Returns the layer. Its weight is divided by an estimate of the weight's largest singular value."""
    parametrize.register_parametrization(layer, "weight", _SpectralNorm(layer.weight))
    return layer
