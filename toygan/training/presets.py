"""The presets of the model families. A preset has the name of its family, except variants such as r3gan."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from toygan.training.config import (
    DataSettings,
    LoggingSettings,
    ObjectiveSettings,
    OptimizerSettings,
    TrainConfig,
)

PRESETS: Final[Mapping[str, TrainConfig]] = MappingProxyType(
    {
        # The learning rates are equal. If the discriminator's were twice the generator's, the discriminator
        # would soon be too good, and would stay so.
        "mlp": TrainConfig(
            family="mlp",
            resolution=64,
            objective=ObjectiveSettings(loss="minimax"),
            optimizer=OptimizerSettings(discriminator_lr=2e-4),
        ),
        "dcgan": TrainConfig(family="dcgan", resolution=64),
        # The loss of Huang et al. 2024 (R3GAN), with paired logits and both penalties at each step. The
        # networks are not those of the paper.
        "r3gan": TrainConfig(
            family="dcgan",
            resolution=64,
            objective=ObjectiveSettings(loss="relativistic", r1_gamma=1.0, r2_gamma=1.0),
            optimizer=OptimizerSettings(generator_lr=2e-4, discriminator_lr=2e-4, adam_betas=(0.0, 0.99)),
        ),
        # The augmentation ramp is a fifth of the paper's, because trainings on a CPU are shorter.
        "stylegan": TrainConfig(
            family="stylegan",
            resolution=64,
            data=DataSettings(batch_size=32, augmentation_ramp_images=100_000),
            objective=ObjectiveSettings(
                loss="non_saturating", r1_gamma=0.1, penalty_every_steps=16, path_length_weight=2.0
            ),
            optimizer=OptimizerSettings(generator_lr=2.5e-3, discriminator_lr=2.5e-3, adam_betas=(0.0, 0.99)),
        ),
        # These are the paper's learning rates. The batches are small, because on a CPU many noisy steps learn
        # more than few exact steps in the same time.
        "projected": TrainConfig(
            family="projected",
            resolution=64,
            data=DataSettings(batch_size=16),
            optimizer=OptimizerSettings(generator_lr=2e-4, discriminator_lr=2e-4, adam_betas=(0.0, 0.99)),
        ),
        # The loss of the paper, with other learning rates and another L1 weight. The paper's learning rates
        # of 2e-4 are for batches of one picture. With batches of 16, pictures are still blurred after 1,000
        # steps. The paper's L1 weight of 100 blurs the pictures more than a weight of 25.
        "pix2pix": TrainConfig(
            family="pix2pix",
            resolution=64,
            data=DataSettings(batch_size=16),
            objective=ObjectiveSettings(loss="non_saturating", l1_weight=25.0),
            optimizer=OptimizerSettings(generator_lr=1e-3, discriminator_lr=1e-3),
        ),
        "spade": TrainConfig(
            family="spade",
            resolution=64,
            data=DataSettings(batch_size=16),
            objective=ObjectiveSettings(feature_matching_weight=10.0, l1_weight=10.0, kl_weight=0.05),
            optimizer=OptimizerSettings(generator_lr=2e-4, discriminator_lr=4e-4, adam_betas=(0.0, 0.9)),
        ),
        # The adversarial loss has a small weight, because the snapshot's own pixels must stay.
        "studio": TrainConfig(
            family="studio",
            resolution=256,
            data=DataSettings(batch_size=8, colour_dropout=0.5, colour_mixing=0.2),
            objective=ObjectiveSettings(
                loss="relativistic",
                l1_weight=40.0,
                gradient_weight=20.0,
                structure_weight=10.0,
                ground_weight=120.0,
                perceptual_weight=3.0,
                perceptual_side=256,
                perceptual_maps=3,
            ),
            optimizer=OptimizerSettings(
                generator_lr=1.2e-3,
                discriminator_lr=4e-4,
                adam_betas=(0.5, 0.99),
                ema_half_life_images=2_000,
            ),
            logging=LoggingSettings(log_every_images=800, checkpoint_every_images=1_600),
        ),
        # Each image is a crop, which takes as long as many small pictures. So logs and checkpoints come
        # after fewer images. A larger adversarial weight gives more detail, but rough outlines.
        "enhancer": TrainConfig(
            family="enhancer",
            resolution=512,
            data=DataSettings(batch_size=4),
            objective=ObjectiveSettings(
                loss="relativistic",
                adversarial_weight=0.05,
                l1_weight=10.0,
                perceptual_weight=0.1,
                perceptual_distance="values",
                perceptual_maps=2,
                perceptual_shift=3,
            ),
            optimizer=OptimizerSettings(
                generator_lr=8e-4,
                discriminator_lr=4e-4,
                adam_betas=(0.5, 0.99),
                ema_half_life_images=2_000,
            ),
            logging=LoggingSettings(log_every_images=800, checkpoint_every_images=1_600),
        ),
    }
)
