import pytest
import torch
from torch import nn

from toygan.training.ema import update_ema


def constant(value: float) -> nn.Sequential:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.fill_(value)
    return network


def test_half_of_the_difference_is_left_after_the_half_life() -> None:
    """640 images in batches of 64: from 0 towards 8 it has come to 4, after as many again to 6."""
    ema, network = constant(0), constant(8)
    for wanted in (4.0, 6.0, 7.0):
        for _ in range(10):
            update_ema(ema, network, batch_size=64, half_life_images=640)
        for key, value in ema.state_dict().items():
            if key != "1.num_batches_tracked":
                torch.testing.assert_close(value, torch.full_like(value, wanted), msg=key)


def test_the_batch_size_does_not_matter() -> None:
    ends = []
    for batch_size in (10, 100):
        ema = constant(0)
        for _ in range(1_000 // batch_size):
            update_ema(ema, constant(1), batch_size=batch_size, half_life_images=700)
        ends.append(ema[0].weight[0, 0].item())
    assert ends == pytest.approx([1 - 0.5 ** (1_000 / 700)] * 2, rel=1e-4)


def test_running_statistics_are_averaged_and_counters_copied() -> None:
    ema, network = constant(0), constant(4)
    update_ema(ema, network, batch_size=1, half_life_images=1)
    buffers = ema[1].state_dict()
    assert buffers["running_mean"].tolist() == buffers["running_var"].tolist() == [2.0, 2.0]
    assert buffers["num_batches_tracked"] == 4


def test_the_network_itself_is_left_alone() -> None:
    ema, network = constant(0), constant(4)
    update_ema(ema, network, batch_size=1, half_life_images=1)
    assert all((value == 4).all() for value in network.state_dict().values())
