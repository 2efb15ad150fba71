"""The inputs of a training step: photos, their conditions, random numbers and augmentations.

All random numbers of a step come from a random generator that is seeded with (seed, images seen). So a
resumed training needs no random state, and continues like an uninterrupted one.
"""

from dataclasses import dataclass
from hashlib import sha256

import torch
from torch import Tensor

from toygan.conditions.colour import encode_accents, encode_colours
from toygan.conditions.text_bank import TextBank
from toygan.data.augment import Augmentation, draw_augmentation, draw_some_augmentation
from toygan.data.photos import PhotoSet
from toygan.data.recolour import draw_mixtures, mix_channels, mix_hex
from toygan.images import from_uint8
from toygan.models.layers import COLOURS, Conditions
from toygan.training.config import TrainConfig

TEXT_DROPOUT = 0.1  # for this share of the training images, the networks get no text
LINES_WITHHELD = 0.1  # for this share of the training images with a layout, the networks get no lines


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The inputs of one step: B photos with their conditions, and random numbers."""

    real: Tensor  # (B, 3, R, R) float32 in [-1, 1]
    conditions: Conditions
    # one for the discriminator's update, one for the generator's; each (B, latent_size) float32
    latents: tuple[Tensor, Tensor]
    # One for the photos, one for the generated pictures of the discriminator's update, one for those of the
    # generator's update.
    augmentations: tuple[Augmentation, Augmentation, Augmentation]
    # (B, S) float32, the texts blended in the same way as generation blends new texts
    blended_text: Tensor | None = None
    # (B, 4, S, S) float32, snapshots with masks for the training of a mask network
    free: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """Moves everything to `device` except the augmentations, which stay on the CPU."""
        return Batch(
            real=self.real.to(device),
            conditions={name: value.to(device) for name, value in self.conditions.items()},
            latents=(self.latents[0].to(device), self.latents[1].to(device)),
            augmentations=self.augmentations,
            blended_text=None if self.blended_text is None else self.blended_text.to(device),
            free=None if self.free is None else self.free.to(device),
        )

    def share(self, index: int, count: int) -> "Batch":
        """Returns the share of the batch for the process `index` of `count` processes.

        All shares have the same number of rows.
        """
        size = len(self.real) // count
        rows = slice(index * size, (index + 1) * size)
        return Batch(
            real=self.real[rows],
            conditions={name: value[rows] for name, value in self.conditions.items()},
            latents=(self.latents[0][rows], self.latents[1][rows]),
            augmentations=(
                self.augmentations[0][rows],
                self.augmentations[1][rows],
                self.augmentations[2][rows],
            ),
            blended_text=None if self.blended_text is None else self.blended_text[rows],
            free=None if self.free is None else self.free[rows],
        )


def sample_batch(
    photos: PhotoSet,
    rows: Tensor,
    config: TrainConfig,
    latent_size: int,
    rng: torch.Generator,
    probability: float | None = None,
    known: TextBank | None = None,
) -> Batch:
    """Makes a batch of the photos `rows` (B,) int64. About half are mirrored, and some lose a condition.

    With `colour_mixing`, some products get another colour, see `toygan.data.recolour`. With a text bank
    `known`, the batch also has blended texts. Each augmentation is applied with `probability`. If
    `probability` is None, a box is cut out of every picture, and every picture is translated.
    """
    count, resolution = len(rows), photos.images.shape[2]
    images, conditions = photos.images[rows], photos.conditions(rows)
    if config.data.colour_mixing:
        channels = draw_mixtures(count, config.data.colour_mixing, rng)
        images, mixed_conditions = _mix_colours(images, conditions, photos, rows, channels)
        conditions |= mixed_conditions
    mirrored = torch.rand(count, generator=rng) < 0.5
    blended = None if known is None else _blended(photos.conditions(rows)["text"], known, rng)
    kept = torch.rand((count, 1), generator=rng) >= config.data.colour_dropout
    for name in COLOURS:
        if name in conditions:
            conditions[name] = conditions[name] * kept
    if "text" in conditions:
        kept = torch.rand((count, 1), generator=rng) >= TEXT_DROPOUT
        conditions["text"] = conditions["text"] * kept
        blended = None if blended is None else blended * kept
    if photos.lines is not None and config.networks().image_condition == "layout":
        withheld = torch.rand((count, 1, 1, 1), generator=rng) < LINES_WITHHELD
        conditions["sketch"] = torch.where(withheld, 1.0, conditions["sketch"])
    for drawing in ("layout", "sketch"):
        if drawing in conditions:
            conditions[drawing] = mirror(conditions[drawing], mirrored)
    first, second = (torch.randn((count, latent_size), generator=rng) for _ in range(2))
    of_real, of_first, of_second = (
        draw_augmentation(count, resolution, rng)
        if probability is None
        else draw_some_augmentation(count, resolution, rng, probability=probability)
        for _ in range(3)
    )
    return Batch(
        real=mirror(from_uint8(images), mirrored),
        conditions=conditions,
        latents=(first, second),
        augmentations=(of_real, of_first, of_second),
        blended_text=blended,
    )


def _mix_colours(
    images: Tensor, conditions: Conditions, photos: PhotoSet, rows: Tensor, channels: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns the photos `rows` in other colours, see `toygan.data.recolour`, and their new conditions."""
    before = [photos.colour_hexes[row] for row in rows.tolist()]
    images, channels = mix_channels(images, before, channels)
    orders = channels.tolist()
    after = [
        None if main is None else mix_hex(main, order) for main, order in zip(before, orders, strict=True)
    ]
    mixed = {"colour": encode_colours(after)}
    if photos.accents is not None:
        accents = [photos.words[row].accent_hexes for row in rows.tolist()]
        mixed_accents = [
            [mix_hex(each, order) for each in hexes] for hexes, order in zip(accents, orders, strict=True)
        ]
        mixed["accents"] = encode_accents(mixed_accents, photos.text_config.accent_colours)
    if photos.labelled_colours is not None:
        mixed["layout"] = photos.labelled_colours.relabel(conditions["layout"], before, after)
    return images, mixed


def _blended(texts: Tensor, known: TextBank, rng: torch.Generator) -> Tensor:
    """Blends each of the texts (B, S) from a random half of the text bank, as if the text were new.

    So half of the texts are blended without their own embedding. The blend of a text is different each time,
    so the network cannot memorise it.
    """
    kept = torch.rand((len(texts), len(known.embeddings)), generator=rng) < 0.5
    return known.blend(texts, kept)


def step_rng(seed: int, images_seen: int, process: int = 0) -> torch.Generator:
    """Returns the random generator, on the CPU, of the step that begins after `images_seen` images.

    Processes that train together all make the whole batch with the generator 0. For the rest of the step each
    uses its own generator, numbered from 1.
    """
    key = f"{seed}\x1f{images_seen}" + (f"\x1f{process}" if process else "")
    digest = sha256(key.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)


def epoch_rows(photos: int, config: TrainConfig, images_seen: int) -> Tensor:
    """Returns the rows (B,) int64 of the next batch. Each epoch has every photo once, in a new order."""
    rows: list[int] = []
    position = images_seen
    while len(rows) < config.data.batch_size:
        epoch, offset = divmod(position, photos)
        order = torch.randperm(photos, generator=step_rng(config.data.seed, -1 - epoch))
        taken = order[offset : offset + config.data.batch_size - len(rows)].tolist()
        rows += taken
        position += len(taken)
    return torch.tensor(rows)


def mirror(images: Tensor, mirrored: Tensor) -> Tensor:
    """Mirrors the pictures (B, ..., W) with True in `mirrored` (B,) left to right."""
    which = mirrored.view(-1, *[1] * (images.ndim - 1))
    return torch.where(which, images.flip(-1), images)
