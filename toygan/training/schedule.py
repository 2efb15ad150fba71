"""Learning rates over the length of a training, counted in images."""

from math import cos, pi

from toygan.training.config import TrainConfig

FLOOR = 0.01  # the share of the learning rate that is left after the decay


def lr_factor(config: TrainConfig, images_seen: int) -> float:
    """Returns the factor of both learning rates, in (0, 1].

    It rises linearly over the first `lr_warmup_images`, and falls along half a cosine to `FLOOR` at
    `lr_decay_images`. If one of these two settings is 0, its part of the curve is left out. Source:
    Loshchilov and Hutter 2017, "SGDR", eq. 5.
    """
    warmup, end = config.schedule.lr_warmup_images, config.schedule.lr_decay_images
    # The batch size is added, because a factor of 0 would waste the first step.
    up = min(1.0, (images_seen + config.data.batch_size) / warmup) if warmup else 1.0
    if not end:
        return up
    return up * (FLOOR + (1 - FLOOR) * (1 + cos(pi * min(1.0, images_seen / end))) / 2)
