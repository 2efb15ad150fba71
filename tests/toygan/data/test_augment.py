import pytest
import torch
from torch import Tensor

from toygan.data.augment import (
    HIGHEST_PROBABILITY,
    SCALE_DEVIATION,
    TURN_DEG,
    AdaptiveAugmentation,
    Augmentation,
    cutout,
    draw_augmentation,
    draw_some_augmentation,
    resample,
    translate,
)


def sampled(count: int, seed: int = 0, side: int = 32) -> Augmentation:
    return draw_augmentation(count, side, torch.Generator().manual_seed(seed))


def some_drawn(count: int, probability: float, seed: int = 0, side: int = 32) -> Augmentation:
    rng = torch.Generator().manual_seed(seed)
    return draw_some_augmentation(count, side, rng, probability=probability)


def black(batch: int, side: int = 32) -> Tensor:
    return torch.full((batch, 3, side, side), -1.0)


def test_translation_brings_in_white_at_the_border_only() -> None:
    moved = translate(black(200), sampled(200).shifts, 1.0)
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
    moved = translate(image.repeat(100, 1, 1, 1), sampled(100).shifts, 1.0)
    places = (moved[:, 0] == 0.5).nonzero()[:, 1:]
    assert len(places) == 100
    assert places[:, 0].min() == 6
    assert places[:, 0].max() == 14
    assert places[:, 1].min() == 16
    assert places[:, 1].max() == 24


def test_cutout_greys_a_box_of_half_the_side() -> None:
    augmentation = sampled(4_000)
    cut = cutout(black(4_000, side=16), augmentation.centres, augmentation.cuts)
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
    first = sampled(8, 1).of_pictures(images)
    assert torch.equal(first, sampled(8, 1).of_pictures(images))
    assert not torch.equal(first, sampled(8, 2).of_pictures(images))
    assert len({image.numpy().tobytes() for image in first}) > 4
    assert torch.equal(images, images[:1].repeat(8, 1, 1, 1))


def test_some_rows_of_an_augmentation_do_the_same_to_some_pictures() -> None:
    images = torch.rand(6, 3, 32, 32)
    whole = sampled(6)
    assert torch.equal(whole[2:5].of_pictures(images[2:5]), whole.of_pictures(images)[2:5])


def test_condition_images_move_with_their_pictures() -> None:
    """A black picture with a sketch and a layout of the same dot: after the shift all three still agree."""
    count = 20
    images = torch.ones(count, 3, 32, 32)
    images[:, :, 12, 18] = -1.0
    layout = (images[:, 0] < 0).long() * 5
    augmentation = sampled(count)
    conditions = {"category": torch.zeros(count), "sketch": images[:, :1], "layout": layout}
    moved = augmentation.of_conditions(conditions)
    pictures = translate(images, augmentation.shifts, 1.0)
    assert torch.equal(moved["sketch"], pictures[:, :1])
    assert torch.equal(moved["layout"], (pictures[:, 0] < 0).long() * 5)
    assert torch.equal(moved["category"], conditions["category"])
    assert torch.equal(conditions["layout"], layout)  # the caller's stay as they are


def test_gradients_flow_to_every_pixel_that_is_still_seen() -> None:
    images = torch.rand(6, 3, 32, 32, requires_grad=True)
    result = sampled(6).of_pictures(images)
    result.sum().backward()
    assert images.grad is not None
    assert set(images.grad.unique().tolist()) == {0.0, 1.0}
    seen = ((result != 0) & (result != 1)).sum(dim=(1, 2, 3))
    assert torch.equal(images.grad.sum(dim=(1, 2, 3)).long(), seen)


def test_a_turn_and_a_scale_by_hand() -> None:
    """Of 4 x 4 pixels, around the middle between them: a quarter turn to the left takes the right column to
    the top; twice the size shows the middle 2 x 2, half the size leaves a border of half the side."""
    image = torch.arange(16.0).view(1, 1, 4, 4)
    turned = resample(image, torch.ones(1), torch.tensor([90.0]), 9.0)[0, 0]
    torch.testing.assert_close(turned, torch.rot90(image[0, 0]))
    enlarged = resample(image, torch.tensor([2.0]), torch.zeros(1), 9.0)[0, 0]
    # Pixel centres 0.5, 1.5, ... come from 1.25, 1.75, 2.25, 2.75: columns 0.75, 1.25, 1.75 and 2.25.
    torch.testing.assert_close(enlarged[0], 4 * 0.75 + torch.tensor([0.75, 1.25, 1.75, 2.25]))
    shrunk = resample(torch.full((1, 1, 8, 8), -1.0), torch.tensor([0.5]), torch.zeros(1), 1.0)[0, 0]
    assert (shrunk[2:6, 2:6] == -1).all()
    assert (shrunk == 1).sum() == 64 - 16


def test_only_what_is_scaled_or_turned_is_resampled() -> None:
    images = torch.rand(3, 3, 16, 16)
    moved = resample(images, torch.tensor([1.0, 1.2, 1.0]), torch.tensor([0.0, 0.0, 5.0]), 1.0)
    assert torch.equal(moved[0], images[0])
    assert not torch.equal(moved[1], images[1])
    assert not torch.equal(moved[2], images[2])


def test_probability_0_leaves_pictures_untouched() -> None:
    images = 2 * torch.rand(200, 3, 16, 16) - 1
    layout = torch.randint(0, 14, (200, 16, 16))
    never = some_drawn(200, 0.0, side=16)
    assert torch.equal(never.of_pictures(images), images)
    changed = never.of_conditions({"sketch": images[:, :1], "layout": layout})
    assert torch.equal(changed["sketch"], images[:, :1])
    assert torch.equal(changed["layout"], layout)


def test_probability_1_moves_every_picture() -> None:
    images = 2 * torch.rand(200, 3, 16, 16) - 1
    always = some_drawn(200, 1.0, side=16)
    changed = (always.of_pictures(images) != images).flatten(1)
    assert changed.any(1).all()
    assert always.cuts.all()
    assert (always.scales != 1).all()
    assert (always.turns_deg != 0).all()


def test_each_transformation_comes_as_often_as_asked_for() -> None:
    some = some_drawn(20_000, 0.3, side=64)
    for happened in (some.scales != 1, some.turns_deg != 0, some.cuts):
        assert happened.float().mean().item() == pytest.approx(0.3, abs=0.015)
    shifted = (some.shifts != 0).any(1)  # one in 17 x 17 shifts goes nowhere
    assert shifted.float().mean().item() == pytest.approx(0.3 * (1 - 1 / 289), abs=0.015)
    both = (some.scales != 1) & (some.turns_deg != 0)
    assert both.float().mean().item() == pytest.approx(0.09, abs=0.01)
    logarithms = some.scales[some.scales != 1].log2()
    assert logarithms.mean().item() == pytest.approx(0, abs=0.01)
    assert logarithms.std().item() == pytest.approx(SCALE_DEVIATION, abs=0.01)
    assert some.turns_deg.abs().max() <= TURN_DEG
    assert some.shifts.abs().max() == 8


def test_condition_images_are_scaled_and_turned_with_their_pictures() -> None:
    """A black square with a sketch of the same and a layout of it: afterwards all three still agree."""
    images = torch.ones(50, 3, 32, 32)
    images[:, :, 8:20, 10:26] = -1.0
    layout = (images[:, 0] < 0).long() * 5
    some = some_drawn(50, 0.7)
    changed = some.of_conditions({"sketch": images[:, :1], "layout": layout})
    uncut = Augmentation(**{**vars(some), "cuts": torch.zeros(50, dtype=torch.bool)})
    pictures = uncut.of_pictures(images)
    assert torch.equal(changed["sketch"], pictures[:, :1])
    assert changed["layout"].dtype == torch.int64
    assert set(changed["layout"].unique().tolist()) == {0, 5}
    assert ((changed["layout"] == 5) != (pictures[:, 0] < 0)).float().mean() < 0.005  # pixels half covered
    assert not torch.equal(changed["layout"], layout)


def test_the_probability_rises_only_while_photos_are_known_by_heart() -> None:
    """Four steps of 8 photos: 32 / 320 = 0.1 a move."""
    adaptive = AdaptiveAugmentation(target=0.6, ramp_images=320)
    for step in range(8):
        assert adaptive.probability == pytest.approx(0.1 * (step // 4))
        adaptive.observe(6 / 8, images=8, step=step)
    assert adaptive.probability == pytest.approx(0.2)
    for step in range(8, 12):
        adaptive.observe(4 / 8, images=8, step=step)
    assert adaptive.probability == pytest.approx(0.1)
    # Half of the steps at 6 / 8 and half at 4 / 8 make 5 / 8: above 0.6.
    for step in range(12, 16):
        adaptive.observe((6 if step % 2 else 4) / 8, images=8, step=step)
    assert adaptive.probability == pytest.approx(0.2)


def test_the_probability_stays_at_the_target_and_within_its_limits() -> None:
    adaptive = AdaptiveAugmentation(target=0.5, ramp_images=16)
    for step, (sign, expected) in enumerate([(-1.0, 0.0), (1.0, HIGHEST_PROBABILITY), (0.5, 0.8), (0.25, 0)]):
        for part in range(4):
            adaptive.observe(sign, images=4, step=4 * step + part)
        assert adaptive.probability == expected


def test_a_checkpoint_takes_up_an_adaptation_between_two_moves() -> None:
    """0.9, 0.5, 0.6 and 0.6 make 0.65 together: above the target, as the last two alone are not."""
    first, second = (AdaptiveAugmentation(target=0.62, ramp_images=100) for _ in range(2))
    for step, sign in enumerate([1.0, 1.0, 1.0, 1.0, 0.9, 0.5]):
        first.observe(sign, images=4, step=step)
    second.load_state_dict(first.state_dict())
    for step, sign in enumerate([0.6, 0.6], start=6):
        for each in (first, second):
            each.observe(sign, images=4, step=step)
    assert torch.equal(first.state, second.state)
    assert first.probability == pytest.approx(0.32)
