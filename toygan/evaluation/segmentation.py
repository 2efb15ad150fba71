"""Measures whether pictures follow the layouts that they were generated from (Park et al. 2019, section 4).

A small U-Net is trained on real photos to predict the layout. Its output for a generated picture is compared
with the given layout. The U-Net makes mistakes on photos, too. So compare the figure of generated pictures
with the figure of photos.
"""

from collections.abc import Callable, Iterator
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from toygan.device import fastest_precision
from toygan.images import from_uint8
from toygan.models.segmenter import Segmenter
from toygan.training.batches import mirror

LARGEST_SIDE: Final = 64  # side in pixels; larger pictures and layouts are reduced to it
EPOCHS: Final = 10  # for 3,200 photos of 64 pixels this number of epochs takes about five minutes on one core
BATCH: Final = 16  # images
LEARNING_RATE: Final = 2e-3  # initial learning rate of Adam; it falls to 0


def fit_segmenter(
    images: Tensor,
    layouts: Tensor,
    classes: int,
    seed: int,
    device: torch.device,
    *,
    epochs: int,
    on_batch: Callable[[int], None] = lambda images: None,
) -> Segmenter:
    """Trains a segmenter on photos (N, 3, R, R) uint8 and layouts (N, R, R) uint8.

    Returns it in evaluation mode. On a CPU, equal arguments give equal bits. `on_batch` is called with the
    size of every finished batch. Raises ValueError for a label outside [0, classes).
    """
    _check(layouts, classes)
    images, layouts = shrink(images), shrink(layouts)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        segmenter = Segmenter(classes)
    segmenter.to(device).to(memory_format=torch.channels_last)
    in_bf16 = fastest_precision(device)[0] == "bf16"
    optimizer = torch.optim.Adam(segmenter.parameters(), lr=LEARNING_RATE)
    steps = -(-epochs * len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    # Most of a photo is background. Without weights, rare labels would not be learned in this time.
    counts = torch.bincount(layouts.flatten(), minlength=classes).clamp(min=1)
    weights = (counts.sum() / counts).sqrt().to(device)
    for rows, mirrored in _draws(len(images), steps, torch.Generator().manual_seed(seed)):
        pictures = mirror(from_uint8(images[rows].to(device)), mirrored.to(device))
        wanted = mirror(layouts[rows].to(device).long(), mirrored.to(device))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=in_bf16):
            loss = F.cross_entropy(segmenter(pictures).float(), wanted, weight=weights)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        on_batch(len(rows))
    return segmenter.eval().requires_grad_(False)


@torch.inference_mode()
def segment(segmenter: Segmenter, images: Tensor) -> Tensor:
    """Predicts labels of pictures (N, 3, R, R) uint8: (N, r, r) int64 on the CPU.

    r is the side to which `shrink` reduces the pictures.
    """
    device = next(segmenter.parameters()).device
    found = [
        segmenter(from_uint8(batch.to(device))).argmax(1).cpu()
        for batch in torch.split(shrink(images), BATCH)
    ]
    return torch.cat(found)


def mean_iou(predicted: Tensor, wanted: Tensor, classes: int) -> float:
    """Returns the mean over classes of the intersection over union (Jaccard index) of all pixels together.

    `predicted` and `wanted` are labels of the same shape. Classes that occur in neither of them are left out.
    Raises ValueError for a label outside [0, classes), different shapes, and empty tensors.
    """
    if predicted.shape != wanted.shape or not wanted.numel():
        raise ValueError(f"labels of {tuple(predicted.shape)} cannot be compared with {tuple(wanted.shape)}")
    _check(predicted, classes)
    _check(wanted, classes)
    pairs = wanted.long().flatten() * classes + predicted.long().flatten()
    counts = torch.bincount(pairs, minlength=classes**2).view(classes, classes)
    both = counts.diagonal()
    either = counts.sum(0) + counts.sum(1) - both
    there = either > 0
    return float((both[there] / either[there]).mean())


def shrink(pictures: Tensor) -> Tensor:
    """Shrinks pictures (N, 3, R, R) or labels (N, R, R) to at most `LARGEST_SIDE` pixels a side.

    Pictures are averaged, labels are sampled.
    """
    factor = pictures.shape[-1] // LARGEST_SIDE
    if factor < 2:
        return pictures
    if pictures.ndim == 3:
        return pictures[:, factor // 2 :: factor, factor // 2 :: factor]
    batches = [F.avg_pool2d(batch.float(), factor).round().byte() for batch in torch.split(pictures, BATCH)]
    return torch.cat(batches)


def _draws(photos: int, steps: int, rng: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields for each step the rows of its photos (B,) int64, and whether each photo is mirrored, (B,) bool.

    The numbers of uses of any two photos differ by at most one.
    """
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        while len(order) < BATCH:
            order = torch.cat([order, torch.randperm(photos, generator=rng)])
        yield order[:BATCH], torch.rand(BATCH, generator=rng) < 0.5
        order = order[BATCH:]


def _check(labels: Tensor, classes: int) -> None:
    lowest, highest = (int(each) for each in labels.aminmax())
    if lowest < 0 or highest >= classes:
        label = lowest if lowest < 0 else highest
        raise ValueError(f"there is a label {label}; labels must lie in 0..{classes - 1}")
