import pytest
import torch
from torch import Tensor

from toygan.evaluation.segmentation import Segmenter, fit_segmenter, mean_iou, segment, shrink

CPU = torch.device("cpu")
PAINT = torch.tensor([[255, 255, 255], [180, 0, 0], [30, 90, 168]], dtype=torch.uint8)


def layouts(count: int, seed: int, side: int = 32) -> Tensor:
    """A box of class 1 or 2 on ground, anywhere: (N, R, R) uint8."""
    rng = torch.Generator().manual_seed(seed)
    made = torch.zeros((count, side, side), dtype=torch.uint8)
    for number, layout in enumerate(made):
        top, left = torch.randint(0, side // 2, (2,), generator=rng).tolist()
        layout[top : top + side // 2, left : left + side // 2] = 1 + number % 2
    return made


def painted(of: Tensor) -> Tensor:
    """(N, 3, R, R) uint8 pictures of layouts."""
    return PAINT[of.long()].permute(0, 3, 1, 2).contiguous()


class TestMeanIou:
    def test_worked_by_hand(self) -> None:
        # Class 0: 2 of 3 pixels that either says; class 1: 1 of 2; class 2 is in neither and left out.
        wanted, found = torch.tensor([[0, 0, 0, 1]]), torch.tensor([[0, 0, 1, 1]])
        assert mean_iou(found, wanted, 3) == pytest.approx((2 / 3 + 1 / 2) / 2)
        assert mean_iou(wanted, found, 3) == pytest.approx((2 / 3 + 1 / 2) / 2)

    def test_all_pixels_count_together(self) -> None:
        # Class 1 is right in the first picture and missed in the second: 1 of 2, not the mean of 1 and 0.
        wanted, found = torch.tensor([[[1, 0]], [[1, 0]]]), torch.tensor([[[1, 0]], [[0, 0]]])
        assert mean_iou(found, wanted, 2) == pytest.approx((2 / 3 + 1 / 2) / 2)

    def test_a_class_that_only_one_side_has_counts_as_missed(self) -> None:
        assert mean_iou(torch.tensor([0, 2]), torch.tensor([0, 1]), 3) == pytest.approx(1 / 3)

    def test_unusable_labels(self) -> None:
        with pytest.raises(ValueError, match=r"there is a label 3; labels must lie in 0\.\.2"):
            mean_iou(torch.tensor([3]), torch.tensor([0]), 3)
        with pytest.raises(ValueError, match=r"labels of \(2,\) cannot be compared with \(1,\)"):
            mean_iou(torch.tensor([0, 0]), torch.tensor([0]), 3)
        with pytest.raises(ValueError, match="cannot be compared"):
            mean_iou(torch.tensor([]), torch.tensor([]), 3)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    known = layouts(32, seed=0)
    return fit_segmenter(painted(known), known, 3, 0, CPU, epochs=32)


@pytest.mark.slow
def test_it_finds_the_layouts_of_pictures_that_it_has_not_seen(segmenter: Segmenter) -> None:
    unseen = layouts(32, seed=1)
    assert mean_iou(segment(segmenter, painted(unseen)), unseen, 3) > 0.9


@pytest.mark.slow
def test_pictures_of_other_layouts_do_not_agree(segmenter: Segmenter) -> None:
    unseen = layouts(32, seed=1)
    found = segment(segmenter, painted(unseen))
    assert mean_iou(found, layouts(32, seed=2), 3) < 0.6
    assert mean_iou(found, unseen.flip(2), 3) < 0.6


@pytest.mark.slow
def test_it_is_a_function_of_its_arguments() -> None:
    known = layouts(8, seed=0)
    reported: list[int] = []
    torch.manual_seed(5)
    first = fit_segmenter(painted(known), known, 3, 7, CPU, epochs=4, on_batch=reported.append)
    torch.manual_seed(6)
    second, other = (fit_segmenter(painted(known), known, 3, seed, CPU, epochs=4) for seed in (7, 8))
    assert sum(reported) == 32
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name])
    assert not torch.equal(first.label.weight, other.label.weight)


def test_labels_outside_the_classes_are_refused() -> None:
    known = layouts(2, seed=0)
    with pytest.raises(ValueError, match="there is a label 2"):
        fit_segmenter(painted(known), known, 2, 0, CPU, epochs=1)


def test_large_pictures_are_averaged_and_their_labels_picked() -> None:
    picture = torch.zeros((1, 3, 128, 128), dtype=torch.uint8)
    picture[..., ::2] = 200
    assert torch.equal(shrink(picture), torch.full((1, 3, 64, 64), 100, dtype=torch.uint8))
    labels = torch.arange(64, dtype=torch.uint8).repeat_interleave(2).expand(1, 128, 128)
    assert torch.equal(shrink(labels)[0, 0], torch.arange(64, dtype=torch.uint8))
    assert shrink(picture[..., :100, :100]).shape == (1, 3, 100, 100)
