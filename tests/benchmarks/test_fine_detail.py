import pytest
import torch
from torch import Tensor

from tests.benchmarks.fine_detail import crops, effective_resolution, fine_energy, white_border

ALL = torch.ones(1, 64, 64, dtype=torch.bool)


def wave(cycles: int, *, amplitude: int = 100) -> Tensor:
    """(1, 3, 64, 64) uint8: grey, with a cosine across it."""
    across = torch.cos(2 * torch.pi * cycles * (torch.arange(64) + 0.5) / 64)
    return (127.5 + amplitude * across).round().byte().expand(1, 3, 64, 64)


def test_only_what_a_small_picture_cannot_hold_has_energy() -> None:
    """A picture of 32 pixels holds 16 cycles; a cosine's mean square is half its amplitude's."""
    assert fine_energy(wave(10), ALL, small_resolution=32) < 1
    assert fine_energy(wave(20), ALL, small_resolution=32) == pytest.approx(5000, rel=0.02)


def test_half_the_amplitude_is_a_quarter_of_the_energy() -> None:
    photo, picture = wave(20), wave(20, amplitude=50)
    found = effective_resolution(picture, photo, ALL, small_resolution=32)
    assert found == pytest.approx(0.25, rel=0.03)
    assert effective_resolution(photo, photo, ALL, small_resolution=32) == 1


def test_what_lies_outside_the_products_does_not_count() -> None:
    product = torch.zeros(1, 64, 64, dtype=torch.bool)
    product[:, 16:48, 4:20] = True
    picture = wave(0, amplitude=0).clone()
    picture[..., 40:] = wave(20)[..., 40:]
    everywhere = fine_energy(picture, ALL, small_resolution=32)
    assert fine_energy(picture, product, small_resolution=32) < everywhere / 50


def test_without_a_product_there_is_no_figure() -> None:
    with pytest.raises(ValueError, match="no pixel shows a product"):
        fine_energy(wave(20), ~ALL, small_resolution=32)


def test_crops_are_cut_and_not_resized() -> None:
    images = torch.arange(512 * 512).remainder(251).byte().view(1, 1, 512, 512).expand(2, 3, 512, 512)
    found = crops(images)
    assert found.shape == (8, 3, 224, 224)
    assert torch.equal(found[0], images[0, :, 32:256, 32:256])
    assert torch.equal(found[6], images[0, :, 256:480, 256:480])
    with pytest.raises(ValueError, match="pictures have 128 pixels a side"):
        crops(images[..., :128, :128])


def test_the_border_is_white_where_all_channels_are() -> None:
    images = torch.full((1, 3, 64, 64), 255, dtype=torch.uint8)
    assert white_border(images) == 1
    images[:, :, 20:40, 20:40] = 0  # inside
    assert white_border(images) == 1
    images[:, 2, :8] = 254  # an eighth of the rows: 512 of 1,792 pixels
    assert white_border(images) == pytest.approx(1 - 512 / 1792)
