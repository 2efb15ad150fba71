"""What is asked of the networks of every family alike."""

from collections.abc import Iterable

import torch
from torch import Tensor

from toygan.models.layers import ConditionalDiscriminator, ConditionalGenerator, Conditions


def check_that_bf16_keeps_more_than_eight_bits(
    generator: ConditionalGenerator,
    discriminator: ConditionalDiscriminator,
    latents: Tensor,
    conditions: Conditions,
) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = generator(latents, conditions)
        logits = discriminator(images, conditions)
    assert images.dtype == logits.dtype == torch.float32
    assert not torch.equal(images, images.bfloat16().float())


def check_that_the_generator_follows(
    generator: ConditionalGenerator,
    latents: Tensor,
    conditions: Conditions,
    others: Iterable[Conditions],
    *,
    least: float,
) -> None:
    """Other conditions or latents change some number of the picture by more than `least`; the same none."""
    original = generator(latents, conditions)
    assert torch.equal(original, generator(latents, conditions))
    for other in (*(generator(latents, other) for other in others), generator(latents + 1, conditions)):
        assert (other - original).abs().max() > least
