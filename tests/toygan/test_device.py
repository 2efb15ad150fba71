import pytest
import torch

from toygan.device import pick_device
from toygan.errors import BadInput


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("name", "wanted"), [("auto", "cuda"), ("cpu", "cpu"), ("cuda", "cuda"), ("cuda:1", "cuda:1")]
)
def test_with_cuda(name: str, wanted: str) -> None:
    assert pick_device(name) == torch.device(wanted)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_without_cuda(name: str) -> None:
    assert pick_device(name) == torch.device("cpu")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_cuda_that_is_not_there(name: str) -> None:
    with pytest.raises(BadInput, match=f"{name} was asked for, but torch finds no CUDA"):
        pick_device(name)


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_beyond_the_last() -> None:
    with pytest.raises(BadInput, match="the last one here is cuda:1"):
        pick_device("cuda:2")


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("name", ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:x", "cuda:²", "mps"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(BadInput, match="known are auto, cpu, cuda and cuda:N"):
        pick_device(name)
