"""A small layout bank for tests."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from toygan.artifact.layout_bank import LayoutBank
from toygan.conditions import labelled_colours
from toygan.conditions.category import encode_categories
from toygan.conditions.colour import encode_colours
from toygan.conditions.drawing_files import DrawingFiles
from toygan.conditions.product import ProductConditions
from toygan.conditions.text_config import TextConfig, TextFields
from toygan.data.photos import PhotoSet
from toygan.training.layout_bank import make_layout_bank

RED, DARK_RED, GREEN, GLASS_RED = "#B40000", "#720012", "#00852B", "#C91A09"


SIDE = 8


AT, ACROSS, AWAY = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-0.5, -0.5, 0.0]  # texts whose mean is next to nothing


texts = st.none() | st.text()


def layout(*labels: int) -> list[list[int]]:
    """Ground above, and below it a strip for each label."""
    rows = [[0] * SIDE] * (SIDE - len(labels))
    return rows + [[label] * SIDE for label in labels]


def photos(*rows: tuple[str, list[list[int]], str | None, tuple[str, ...], list[float]]) -> PhotoSet:
    """Each of a category, a layout, a main colour, accents and what its text is embedded to."""
    categories, layouts, mains, accents, texts = zip(*rows, strict=True)
    names = tuple(sorted(set(categories)))
    lines = torch.full((len(rows), SIDE, SIDE), 255, dtype=torch.uint8)
    lines[:, 0] = torch.arange(len(rows), dtype=torch.uint8)[:, None] * 36
    return PhotoSet(
        images=torch.zeros((len(rows), 3, SIDE, SIDE), dtype=torch.uint8),
        category=encode_categories(list(categories), names),
        colour=encode_colours(list(mains)),
        colour_hexes=mains,
        finishes=(None,) * len(mains),
        words=tuple(
            TextFields(text=json.dumps(text), shape_text=json.dumps(text), accent_hexes=each)
            for each, text in zip(accents, texts, strict=True)
        ),
        skus=tuple(map(str, range(len(rows)))),
        categories=names,
        image_condition="layout",
        condition_images=torch.tensor(layouts, dtype=torch.uint8),
        lines=lines,
        files=tuple(
            DrawingFiles.of(np.array(each, dtype=np.uint8), generated.numpy())
            for each, generated in zip(layouts, lines, strict=True)
        ),
        text_config=TextConfig(accent_colours=2),
    )


def embed(texts: Sequence[str | None]) -> Tensor:
    return torch.tensor([json.loads(each or "") for each in texts])


def toys() -> PhotoSet:
    return photos(
        ("brick", layout(5), RED, (), AT),
        ("brick", layout(8), GREEN, (), ACROSS),
        ("brick", layout(12), GLASS_RED, (), AWAY),
        ("car", layout(5, 8, 1), RED, (GREEN,), AT),
        ("car", layout(8, 5), GREEN, (RED,), ACROSS),
        ("car", layout(8), GREEN, (), AWAY),
    )


def of(found: PhotoSet, **changes: Any) -> LayoutBank:
    return make_layout_bank(found, **{"embed": embed, "classes": 14, "temperature": 0.1} | changes)


@pytest.fixture(autouse=True)
def finishes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on real photos, where many colours of a finish are as far from each other as all colours are."""
    monkeypatch.setattr(labelled_colours, "name_colours", lambda colours, labels: labels != 12)


def known() -> LayoutBank:
    return of(toys())


def read(content: bytes, **changes: Any) -> LayoutBank:
    values: dict[str, Any] = {"text_size": 3, "classes": 14}
    return LayoutBank.from_file(content, 0.1, **values | changes)


def brick(colour_hex: str | None = RED, *accents: str, category: str = "brick") -> ProductConditions:
    return ProductConditions(category=category, colour_hex=colour_hex, accent_hexes=accents)


def text(values: list[float]) -> Tensor:
    return torch.tensor(values)
