import numpy as np
import pytest
import torch

from toygan.conditions.colour import encode_colours
from toygan.conditions.text_config import TextFields
from toygan.data.photos import PhotoSet
from toygan.evaluation import generated
from toygan.evaluation.generated import GeneratedPictures, generated_pairs, photo_pairs


def sampled(*rows: int) -> GeneratedPictures:
    return GeneratedPictures(
        images=torch.zeros((len(rows), 3, 1, 1), dtype=torch.uint8),
        rows=np.array(rows),
        seeds=tuple(range(len(rows))),
        logits=np.zeros(len(rows), dtype=np.float32),
        layout_similarities=(None,) * len(rows),
        agree=(None,) * len(rows),
        shapes=(None,) * len(rows),
    )


def photos(*known: tuple[int, str | None]) -> PhotoSet:
    hexes = tuple(colour_hex for _, colour_hex in known)
    return PhotoSet(
        images=torch.zeros((len(known), 3, 1, 1), dtype=torch.uint8),
        category=torch.tensor([category for category, _ in known]),
        colour=encode_colours(hexes),
        colour_hexes=hexes,
        finishes=(None,) * len(hexes),
        words=(TextFields(),) * len(known),
        skus=tuple(f"sku-{number}" for number in range(len(known))),
        categories=("brick", "plant"),
    )


def test_pictures_of_one_photo_are_paired_each_once() -> None:
    # Photo 7 is drawn three times: the third stays alone. Photo 2 is of category 1.
    pictures = sampled(7, 2, 7, 9, 7, 2)
    assert generated_pairs(pictures, np.array([0, 1, 0, 0, 0, 1])).tolist() == [[0, 2], [1, 5]]


def test_photos_of_one_category_and_colour_are_paired() -> None:
    red = "#B40000"
    known = photos((0, red), (1, red), (0, "#1E5AA8"), (0, None), (0, "#b40000"), (0, None))
    assert photo_pairs(known, None).tolist() == [[0, 4]]


def test_no_two_photos_share_a_condition_image() -> None:
    known = photos((0, "#B40000"), (0, "#B40000"))
    assert photo_pairs(known, "layout").shape == (0, 2)


def test_a_category_gets_no_more_pairs_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "PAIRS_OF_A_CATEGORY", 1)
    pictures = sampled(0, 0, 1, 1, 2, 2)
    assert generated_pairs(pictures, np.array([0, 0, 0, 0, 1, 1])).tolist() == [[0, 1], [4, 5]]


def test_nothing_to_pair() -> None:
    assert generated_pairs(sampled(0, 1, 2), np.zeros(3, dtype=np.int64)).shape == (0, 2)
