"""Exponential moving average of the generator's weights. The model keeps this average."""

import torch
from torch import nn


@torch.no_grad()
def update_ema(ema: nn.Module, network: nn.Module, *, batch_size: int, half_life_images: float) -> None:
    """Moves `ema` towards `network`. The share of an old weight halves every `half_life_images` images.

    Buffers, such as the running statistics of batch normalisation, are averaged, too. Integer buffers are
    copied.
    Source: Karras et al. 2018, "Progressive Growing of GANs", appendix A, with the decay counted in images.
    """
    decay = 0.5 ** (batch_size / half_life_images)
    for kept, current in zip(ema.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(current, 1 - decay)
        else:
            kept.copy_(current)
