"""Adversarial losses as pure functions of logits. Logits are (B,) float32, losses are scalars."""

import torch.nn.functional as F
from torch import Tensor


def hinge_discriminator_loss(real_logits: Tensor, generated_logits: Tensor) -> Tensor:
    """Lim & Ye 2017, eq. 3: E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))]."""
    return F.relu(1 - real_logits).mean() + F.relu(1 + generated_logits).mean()


def hinge_generator_loss(generated_logits: Tensor) -> Tensor:
    """Lim & Ye 2017, eq. 4: -E[D(G(z))]."""
    return -generated_logits.mean()
