"""Learning rates over the length of a training, counted in images."""

from math import cos, pi

from toygan.training.config import TrainConfig

FLOOR = 0.01  # of the rate is left when the decay has ended


def lr_factor(config: TrainConfig, images_seen: int) -> float:
    """What both rates are multiplied by, in (0, 1].

    Up in a straight line over the first `lr_warmup_images`, and down along half a cosine (Loshchilov and
    Hutter 2017, "SGDR", eq. 5) to `FLOOR` at `lr_decay_images`; 0 leaves either out.
    """
    warmup, end = config.lr_warmup_images, config.lr_decay_images
    # Not 0 at the first step, which would be a step for nothing.
    up = min(1.0, (images_seen + config.batch_size) / warmup) if warmup else 1.0
    if not end:
        return up
    return up * (FLOOR + (1 - FLOOR) * (1 + cos(pi * min(1.0, images_seen / end))) / 2)
