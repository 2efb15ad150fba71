"""A training that has blown up must not overwrite what it had learnt before."""

from collections.abc import Mapping

import torch
from torch import nn

from toygan.errors import RunFailed


def check_finite(modules: Mapping[str, nn.Module]) -> None:
    """Raises RunFailed, naming the first of them, when a weight or a buffer is NaN or infinite."""
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            if not torch.isfinite(value).all():
                raise RunFailed(
                    f"the training diverged: {name}/{key} is no longer finite. The newest checkpoint is "
                    "from before; train anew with a lower generator_rate and discriminator_rate"
                )
