"""Makes the layout bank of a model from the photos of its training."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toygan.artifact.colour_labels import ColourLabels
from toygan.artifact.layout_bank import MOST_KNOWN, LayoutBank
from toygan.conditions.condition_types import BACKGROUND
from toygan.conditions.drawing_files import DrawingFiles
from toygan.data.photos import PhotoSet


def make_layout_bank(
    photos: PhotoSet,
    *,
    embed: Callable[[Sequence[str | None]], Tensor] | None,
    classes: int,
    temperature: float,
    earlier: LayoutBank | None = None,
) -> LayoutBank:
    """Makes a bank of the layouts of `photos`, and of those of an `earlier` bank if its texts fit.

    The bank has at most MOST_KNOWN layouts. Each category gets the same number of layouts, if it has that
    many. Layouts of `photos` are taken before those of the earlier bank. `embed` maps M texts to (M, S)
    float32, as TextEncoder.embed does; without it the bank has no texts. If the texts of the earlier bank
    name the finish, those of the photos name it, too.
    """
    layouts = photos.condition_images
    if photos.image_condition != "layout" or layouts is None or not photos.files:
        raise ValueError("the photos have no layouts, or their layouts were not kept as files")
    colour_labels = ColourLabels.of(photos.colour_hexes, layouts)
    if earlier is not None:
        colour_labels = colour_labels.joined(earlier.colour_labels)
    names = [photos.categories[index] for index in photos.category.tolist()]
    rows = _shared_out(names, MOST_KNOWN)
    say_finish = earlier is not None and earlier.say_finish
    words = [photos.words[row] for row in rows]
    texts = torch.zeros(len(rows), 0)
    if embed is not None:
        texts = embed([each.text if say_finish else each.shape_text for each in words])
    own = LayoutBank(
        categories=tuple(names[row] for row in rows),
        files=tuple(photos.files[row] for row in rows),
        texts=texts.half().float(),  # rounded to half precision, as in the file of the bank
        say_finish=say_finish,
        labels=tuple(
            _labels_in(layouts[row], [photos.colour_hexes[row], *each.accent_hexes], colour_labels)
            for row, each in zip(rows, words, strict=True)
        ),
        colour_labels=colour_labels,
        classes=classes,
        temperature=temperature,
    )
    return own if earlier is None else _joined(own, earlier, photos.categories)


def _joined(bank: LayoutBank, earlier: LayoutBank, categories: Sequence[str]) -> LayoutBank:
    if earlier.texts.shape[1] != bank.texts.shape[1]:
        return bank
    mine = set(_entries(bank))
    theirs = _entries(earlier)
    new = [row for row, each in enumerate(theirs) if each not in mine and each[0] in categories]
    both = (*bank.categories, *(earlier.categories[row] for row in new))
    kept = _shared_out(both, MOST_KNOWN)

    def joined(own: Sequence[Any], others: Sequence[Any]) -> tuple[Any, ...]:
        all_of_them = (*own, *(others[row] for row in new))
        return tuple(all_of_them[row] for row in kept)

    return replace(
        bank,
        categories=tuple(both[row] for row in kept),
        files=joined(bank.files, earlier.files),
        texts=torch.cat([bank.texts, earlier.texts[new]])[kept],
        labels=joined(bank.labels, earlier.labels),
    )


def _entries(bank: LayoutBank) -> Iterator[tuple[str, DrawingFiles, bytes]]:
    """Yields the values by which two rows are compared: category, files and text.

    The text is needed, because products of one shape may have different titles.
    """
    texts = (row.tobytes() for row in bank.texts.half().numpy())
    return zip(bank.categories, bank.files, texts, strict=True)


def _shared_out(categories: Sequence[str], most: int) -> list[int]:
    """Chooses at most `most` rows, spread as evenly as possible over the categories.

    Returns them in ascending order.
    """
    seen: Counter[str] = Counter()
    rounds = []
    for category in categories:
        rounds.append(seen[category])
        seen[category] += 1
    return sorted(np.argsort(rounds, kind="stable")[:most].tolist())


def _labels_in(layout: Tensor, hexes: Sequence[str | None], colour_labels: ColourLabels) -> tuple[int, ...]:
    """Returns the labels of the given colours in a layout.

    If the layout lacks the label of the main colour, the main colour gets the layout's most frequent label.
    """
    counts = layout.flatten().bincount(minlength=256)
    counts[BACKGROUND] = 0
    named = [None if each is None else colour_labels(each) for each in hexes]
    found = [BACKGROUND if each is None or not counts[each] else each for each in named]
    if found[0] == BACKGROUND and hexes[0] is not None and counts.any():
        found[0] = int(counts.argmax())
    return tuple(found)
