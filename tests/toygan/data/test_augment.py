import pytest
import torch
from torch import Tensor

from toygan.data.augment import Augmentation, cutout, draw_augmentation, translate


def drawn(count: int, seed: int = 0, side: int = 32) -> Augmentation:
    return draw_augmentation(count, side, torch.Generator().manual_seed(seed))


def black(batch: int, side: int = 32) -> Tensor:
    return torch.full((batch, 3, side, side), -1.0)


def test_translation_brings_in_white_at_the_border_only() -> None:
    moved = translate(black(200), drawn(200).shifts, 1.0)
    assert moved.shape == (200, 3, 32, 32)
    assert set(moved.unique().tolist()) == {-1.0, 1.0}
    white_rows = (moved == 1).all(dim=(1, 3)).sum(1)
    white_columns = (moved == 1).all(dim=(1, 2)).sum(1)
    # An eighth of 32 pixels, each way; every shift from 0 to 4 comes up among 200 pictures.
    assert set(white_rows.tolist()) == set(white_columns.tolist()) == {0, 1, 2, 3, 4}
    # What was pushed in on one side was pushed out on the other: the rest is untouched.
    black_left = (moved == -1).sum(dim=(1, 2, 3))
    assert torch.equal(black_left, 3 * (32 - white_rows) * (32 - white_columns))


def test_translation_keeps_the_picture() -> None:
    image = torch.zeros(1, 3, 32, 32)
    image[0, :, 10, 20] = 0.5
    moved = translate(image.repeat(100, 1, 1, 1), drawn(100).shifts, 1.0)
    places = (moved[:, 0] == 0.5).nonzero()[:, 1:]
    assert len(places) == 100
    assert places[:, 0].min() == 6
    assert places[:, 0].max() == 14
    assert places[:, 1].min() == 16
    assert places[:, 1].max() == 24


def test_cutout_greys_a_box_of_half_the_side() -> None:
    cut = cutout(black(4_000, side=16), drawn(4_000).centres)
    grey = cut == 0
    share = grey.float().mean(dim=(1, 2, 3))
    # A box in the middle covers a quarter. Along one axis a box of half the side whose centre is anywhere in
    # [0, 1] covers 1/2 - 2 * (integral of (1/4 - c) for c from 0 to 1/4) = 7/16 on average, so (7/16)^2 of
    # the picture.
    assert share.max() == 0.25
    assert share.mean().item() == pytest.approx((7 / 16) ** 2, abs=0.005)
    assert torch.equal(grey[:, 0], grey[:, 2])
    assert set(cut.unique().tolist()) == {-1.0, 0.0}


def test_a_known_shift() -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3)
    moved = translate(image, torch.tensor([[1, -1]]), 9.0)
    assert moved[0, 0].tolist() == [[9, 9, 9], [1, 2, 9], [4, 5, 9]]


def test_same_for_the_same_seed_and_different_within_a_batch() -> None:
    images = torch.rand(1, 3, 32, 32).repeat(8, 1, 1, 1)
    first = drawn(8, 1).of_pictures(images)
    assert torch.equal(first, drawn(8, 1).of_pictures(images))
    assert not torch.equal(first, drawn(8, 2).of_pictures(images))
    assert len({image.numpy().tobytes() for image in first}) > 4
    assert torch.equal(images, images[:1].repeat(8, 1, 1, 1))


def test_some_rows_of_an_augmentation_do_the_same_to_some_pictures() -> None:
    images = torch.rand(6, 3, 32, 32)
    whole = drawn(6)
    assert torch.equal(whole[2:5].of_pictures(images[2:5]), whole.of_pictures(images)[2:5])


def test_condition_images_move_with_their_pictures() -> None:
    """A black picture with a sketch and a layout of the same dot: after the shift all three still agree."""
    count = 20
    images = torch.ones(count, 3, 32, 32)
    images[:, :, 12, 18] = -1.0
    layout = (images[:, 0] < 0).long() * 5
    augmentation = drawn(count)
    conditions = {"category": torch.zeros(count), "sketch": images[:, :1], "layout": layout}
    moved = augmentation.of_conditions(conditions)
    pictures = translate(images, augmentation.shifts, 1.0)
    assert torch.equal(moved["sketch"], pictures[:, :1])
    assert torch.equal(moved["layout"], (pictures[:, 0] < 0).long() * 5)
    assert torch.equal(moved["category"], conditions["category"])
    assert torch.equal(conditions["layout"], layout)  # the caller's stay as they are


def test_gradients_flow_to_every_pixel_that_is_still_seen() -> None:
    images = torch.rand(6, 3, 32, 32, requires_grad=True)
    result = drawn(6).of_pictures(images)
    result.sum().backward()
    assert images.grad is not None
    assert set(images.grad.unique().tolist()) == {0.0, 1.0}
    seen = ((result != 0) & (result != 1)).sum(dim=(1, 2, 3))
    assert torch.equal(images.grad.sum(dim=(1, 2, 3)).long(), seen)
