"""What a training step is made from: rows of the photos, random numbers, augmentations.

Every random number comes from a generator seeded by (seed, images seen), so a resumed training needs no
random state and goes on as an uninterrupted one would.
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
from toygan.models import image_condition
from toygan.models.layers import COLOURS, Conditions
from toygan.training.config import TrainConfig

LINES_WITHHELD = 0.1  # share of the training pictures that are drawn from a layout without its lines


@dataclass(frozen=True, kw_only=True)
class Batch:
    """All that a step is made from: B photos with what is known of them, and random numbers."""

    real: Tensor  # (B, 3, R, R) float32 in [-1, 1]
    conditions: Conditions
    latents: tuple[Tensor, Tensor]  # of the discriminator's and of the generator's update
    augmentations: tuple[Augmentation, Augmentation, Augmentation]  # of the photos, and of either update
    views: Tensor | None = None  # (B, 2) float32, NaN where unknown, see toygan.data.views
    blended_text: Tensor | None = None  # (B, S) float32, the texts as generation will read new ones

    def to(self, device: torch.device) -> "Batch":
        """The same on `device`, but for the augmentations, which are applied from the CPU."""
        return Batch(
            real=self.real.to(device),
            conditions={name: value.to(device) for name, value in self.conditions.items()},
            latents=(self.latents[0].to(device), self.latents[1].to(device)),
            augmentations=self.augmentations,
            views=None if self.views is None else self.views.to(device),
            blended_text=None if self.blended_text is None else self.blended_text.to(device),
        )

    def share(self, index: int, count: int) -> "Batch":
        """The rows of one of `count` processes that train together, as many for each."""
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
            views=None if self.views is None else self.views[rows],
            blended_text=None if self.blended_text is None else self.blended_text[rows],
        )


def draw_batch(
    photos: PhotoSet,
    rows: Tensor,
    config: TrainConfig,
    latent_size: int,
    rng: torch.Generator,
    probability: float | None = None,
    known: TextBank | None = None,
) -> Batch:
    """The photos `rows` (B,) int64, about half of them mirrored, with some conditions withheld.

    Some products are shown in other colours where the training asks for it, see `toygan.data.recolour`.
    Texts are moved by noise where the training asks for it, and blended from the `known` ones, where given.
    `probability` is that of each transformation before the discriminator; None: all pictures are moved.
    """
    count, resolution = len(rows), photos.images.shape[2]
    images, conditions = photos.images[rows], photos.conditions(rows)
    if config.colour_mixing:
        channels = draw_mixtures(count, config.colour_mixing, rng)
        images, mixed_conditions = _mix_colours(images, conditions, photos, rows, channels)
        conditions |= mixed_conditions
    mirrored = torch.rand(count, generator=rng) < 0.5
    if photos.text is not None and config.text_noise:
        conditions["text"] = _moved(conditions["text"], photos.text, config.text_noise, rng)
    blended = None if known is None else _blended(photos.conditions(rows)["text"], known, rng)
    kept = torch.rand((count, 1), generator=rng) >= config.colour_dropout
    for name in COLOURS:
        if name in conditions:
            conditions[name] = conditions[name] * kept
    if "text" in conditions:
        kept = torch.rand((count, 1), generator=rng) >= config.text_dropout
        conditions["text"] = conditions["text"] * kept
        blended = None if blended is None else blended * kept
    if photos.lines is not None and image_condition(config.family) == "layout":
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
        views=None if photos.views is None else _mirrored_views(photos.views[rows], mirrored),
        blended_text=blended,
    )


def _mix_colours(
    images: Tensor, conditions: Conditions, photos: PhotoSet, rows: Tensor, channels: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """The photos `rows` in other colours, see `toygan.data.recolour`, and the conditions that name these."""
    before = [photos.colour_hexes[row] for row in rows.tolist()]
    images, channels = mix_channels(images, before, channels)
    orders = channels.tolist()
    after = [
        None if main is None else mix_hex(main, order) for main, order in zip(before, orders, strict=True)
    ]
    mixed = {"colour": encode_colours(after)}
    if photos.accents is not None:
        accents = [photos.words[row].accent_hexes for row in rows.tolist()]
        told = [
            [mix_hex(each, order) for each in hexes] for hexes, order in zip(accents, orders, strict=True)
        ]
        mixed["accents"] = encode_accents(told, photos.text_config.accent_colours)
    if photos.labelled_colours is not None:
        mixed["layout"] = photos.labelled_colours.relabel(conditions["layout"], before, after)
    return images, mixed


def _blended(texts: Tensor, known: TextBank, rng: torch.Generator) -> Tensor:
    """The texts (B, S) as if they were new: each by a random half of the known ones.

    So half of them do not know themselves, and none is learnt by heart as the mean that it always is.
    """
    kept = torch.rand((len(texts), len(known.embeddings)), generator=rng) < 0.5
    return known.blend(texts, kept)


def _moved(texts: Tensor, known: Tensor, limit: float, rng: torch.Generator) -> Tensor:
    """The texts (B, S) with noise, as long in every direction as the `known` (N, S) ones differ in it.

    Each goes from 0 to `limit` of the way that leads from one random text to another. So a network sees what
    lies between the few texts that there are photos of, as the interpolated ones of Reed et al. 2016
    (GAN-INT, section 4.3) and the conditioning augmentation of Zhang et al. 2017 (StackGAN, section 3.2) let
    it see.
    Products without a text, which are zeros, keep theirs, and a way from or to one of them is not gone.
    """
    count = len(texts)
    start, end = (known[torch.randint(len(known), (count,), generator=rng)] for _ in range(2))
    said = (texts.any(1) & start.any(1) & end.any(1))[:, None]
    shares = limit * torch.rand((count, 1), generator=rng)
    return texts + said * shares * (end - start)


def _mirrored_views(views: Tensor, mirrored: Tensor) -> Tensor:
    """The azimuth's score, which comes first, changes its sign with its photo."""
    signs = torch.ones_like(views)
    signs[mirrored, 0] = -1
    return views * signs


def step_rng(seed: int, images_seen: int, process: int = 0) -> torch.Generator:
    """The random numbers of the step that begins after `images_seen` images; on the CPU for every device.

    Processes that train together share those of number 0, which make the joint batch; what is random beyond
    it differs among them.
    """
    key = f"{seed}\x1f{images_seen}" + (f"\x1f{process}" if process else "")
    digest = sha256(key.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)


def epoch_rows(photos: int, config: TrainConfig, images_seen: int) -> Tensor:
    """Row numbers (B,) int64 of the next batch: every photo once an epoch, in an order of the epoch's own."""
    rows: list[int] = []
    position = images_seen
    while len(rows) < config.batch_size:
        epoch, offset = divmod(position, photos)
        order = torch.randperm(photos, generator=step_rng(config.seed, -1 - epoch))
        taken = order[offset : offset + config.batch_size - len(rows)].tolist()
        rows += taken
        position += len(taken)
    return torch.tensor(rows)


def mirror(images: Tensor, mirrored: Tensor) -> Tensor:
    """Turns the pictures (B, ..., W) left to right whose entry in `mirrored` (B,) bool says so."""
    which = mirrored.view(-1, *[1] * (images.ndim - 1))
    return torch.where(which, images.flip(-1), images)
