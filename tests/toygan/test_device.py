import platform

import pytest
import torch

from toygan import device as device_module
from toygan.device import fastest_precision, pick_device
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
    with pytest.raises(BadInput, match=f"{name} was given, but torch finds no CUDA device"):
        pick_device(name)


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_beyond_the_last() -> None:
    with pytest.raises(BadInput, match="the last device here is cuda:1"):
        pick_device("cuda:2")


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("name", ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:x", "cuda:²", "mps"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(BadInput, match="known are auto, cpu, cuda and cuda:N"):
        pick_device(name)


def on_cpu(monkeypatch: pytest.MonkeyPatch, machine: str, **units: bool) -> tuple[str, str]:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, **units})
    return fastest_precision(torch.device("cpu"))


@pytest.mark.parametrize(
    ("capability", "wanted"),
    [((6, 1), "fp32"), ((7, 0), "fp16"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((12, 0), "bf16")],
)
def test_a_gpu_trains_in_what_its_tensor_cores_know(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], wanted: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    major, minor = capability
    assert fastest_precision(torch.device("cuda:1")) == (wanted, f"compute capability {major}.{minor}")


@pytest.mark.parametrize("unit", ["avx512_bf16", "amx_bf16"])
def test_a_cpu_with_units_for_bf16_trains_in_bf16(monkeypatch: pytest.MonkeyPatch, unit: str) -> None:
    assert on_cpu(monkeypatch, "x86_64", **{unit: True}) == ("bf16", f"the CPU has {unit}")


def test_a_cpu_without_units_for_bf16_trains_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    found = on_cpu(monkeypatch, "AMD64", avx512_bf16=False, avx512_f=True)
    assert found == ("fp32", "the CPU has no units for bf16")


@pytest.mark.parametrize(("bf16_s", "wanted"), [(2.0, "fp32"), (0.5, "bf16")])
def test_a_step_of_each_decides_on_other_cpus(
    monkeypatch: pytest.MonkeyPatch, bf16_s: float, wanted: str
) -> None:
    times_s = {torch.float32: 1.0, torch.bfloat16: bf16_s}
    monkeypatch.setattr(device_module, "_step_s", lambda dtype: times_s[dtype])
    reason = f"a step takes {bf16_s:.2g} times as long in bf16"
    assert on_cpu(monkeypatch, "aarch64") == (wanted, reason)


def test_steps_are_timed_without_a_trace_in_the_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_rng_state()
    precision, reason = on_cpu(monkeypatch, "riscv64")
    assert precision in ("fp32", "bf16")
    assert reason.startswith("a step takes ")
    assert torch.equal(torch.get_rng_state(), before)
