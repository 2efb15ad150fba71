import pytest
from torch import nn

from toygan.errors import RunFailed
from toygan.training.guard import check_finite


def test_finite_weights_pass() -> None:
    check_finite({"generator": nn.BatchNorm1d(2), "discriminator": nn.Linear(2, 2)})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_bad_number_is_found_and_named(value: float) -> None:
    network = nn.BatchNorm1d(2)
    assert network.running_var is not None
    network.running_var[1] = value
    with pytest.raises(RunFailed, match="diverged: generator/running_var is no longer finite"):
        check_finite({"discriminator": nn.Linear(2, 2), "generator": network})
