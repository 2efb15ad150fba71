"""Exponential moving average of the generator, which the model keeps."""

import torch
from torch import nn


@torch.no_grad()
def update_ema(ema: nn.Module, network: nn.Module, *, batch_size: int, half_life_images: float) -> None:
    """Moves `ema` towards `network`: a weight's share halves every `half_life_images` images.

    Buffers (the running statistics of batch normalisation) are averaged, too; integer ones are copied.
    Source: Karras et al. 2018, "Progressive Growing of GANs", appendix A, with the decay counted in images.
    """
    decay = 0.5 ** (batch_size / half_life_images)
    for kept, current in zip(ema.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(current, 1 - decay)
        else:
            kept.copy_(current)
