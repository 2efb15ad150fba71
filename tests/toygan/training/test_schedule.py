import pytest

from tests.toygan.training.tiny import tiny
from toygan.training.schedule import FLOOR, lr_factor


def test_rates_stay_where_nothing_is_asked_for() -> None:
    assert {lr_factor(tiny(), images) for images in (0, 10, 10**9)} == {1.0}


def test_warm_up_by_hand() -> None:
    """Batches of 4 over 16 images: a quarter, a half, three quarters, then all."""
    config = tiny(batch_size=4, lr_warmup_images=16)
    assert [lr_factor(config, images) for images in (0, 4, 8, 12, 16, 400)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_decay_by_hand() -> None:
    """cos(0) = 1, cos(pi / 2) = 0, cos(pi) = -1."""
    config = tiny(lr_decay_images=100)
    assert lr_factor(config, 0) == 1.0
    assert lr_factor(config, 50) == pytest.approx(FLOOR + (1 - FLOOR) / 2)
    assert lr_factor(config, 100) == pytest.approx(FLOOR)
    assert lr_factor(config, 1000) == pytest.approx(FLOOR)


def test_both_at_once() -> None:
    config = tiny(batch_size=4, lr_warmup_images=8, lr_decay_images=100)
    assert lr_factor(config, 0) == pytest.approx(0.5)
    assert lr_factor(config, 50) == pytest.approx(FLOOR + (1 - FLOOR) / 2)
