import json
import logging
from pathlib import Path

import pytest
import torch

from tests.toygan.training.tiny import changed, tiny
from toygan.device import Precision
from toygan.errors import ModelError
from toygan.training import precision as precision_module
from toygan.training.checkpoint import checkpoint_folders
from toygan.training.config import TrainConfig
from toygan.training.distributed import ALONE, Distributed
from toygan.training.limits import Limits
from toygan.training.precision import with_precision
from toygan.training.train import train

CPU = torch.device("cpu")
AUTO = tiny(precision="auto")


def device_is_good_at(monkeypatch: pytest.MonkeyPatch, precision: Precision) -> None:
    monkeypatch.setattr(precision_module, "fastest_precision", lambda device: (precision, "it is new"))


def run(shards: Path, output: Path, config: TrainConfig, max_images: int, *, resume: bool = False) -> str:
    """Returns the precision that the model says it was trained in."""
    model = train(
        photos_uri=shards,
        output=output,
        config=config,
        device=CPU,
        limits=Limits(max_images=max_images),
        resume=resume,
    )
    settings = json.loads((model / "config.json").read_bytes())["training"]["settings"]
    precision: str = settings["optimizer"]["precision"]
    return precision


def test_auto_is_the_default_and_the_device_decides(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert TrainConfig(family="dcgan", resolution=64).optimizer.precision == "auto"
    device_is_good_at(monkeypatch, "fp16")
    with caplog.at_level(logging.INFO):
        found = with_precision(AUTO, CPU, checkpoint=None, distributed=ALONE)
    assert found == changed(AUTO, precision="fp16")
    assert "training in fp16: it is new" in caplog.text


def test_a_precision_that_is_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    device_is_good_at(monkeypatch, "bf16")
    config = tiny(precision="fp32")
    assert with_precision(config, CPU, checkpoint=None, distributed=ALONE) is config


def test_processes_on_unlike_devices_take_what_all_are_good_at(monkeypatch: pytest.MonkeyPatch) -> None:
    device_is_good_at(monkeypatch, "bf16")
    others: list[Precision] = ["fp16", "bf16"]
    asked: list[bool] = []

    class Unlike(Distributed):
        def any(self, is_so: bool) -> bool:
            """The question of `with_precision`: fp32 first, then fp16, then bf16."""
            precision = ("fp32", "fp16", "bf16")[len(asked)]
            asked.append(is_so)
            return is_so or precision in others

    distributed = Unlike(index=0, count=3)
    assert with_precision(AUTO, CPU, checkpoint=None, distributed=distributed).optimizer.precision == "fp16"
    assert asked == [False, False]


def test_a_resumed_training_keeps_the_precision_it_began_with(
    monkeypatch: pytest.MonkeyPatch, shards: Path, tmp_path: Path
) -> None:
    device_is_good_at(monkeypatch, "bf16")
    assert run(shards, tmp_path, AUTO, 8) == "bf16"
    device_is_good_at(monkeypatch, "fp32")
    assert run(shards, tmp_path, AUTO, 12, resume=True) == "bf16"
    state = json.loads((checkpoint_folders(tmp_path)[-1] / "state.json").read_bytes())
    assert state["config"]["optimizer.precision"] == "bf16"
    with pytest.raises(ModelError, match=r"made with other values of optimizer\.precision"):
        run(shards, tmp_path, tiny(precision="fp32"), 16, resume=True)


@pytest.mark.parametrize("content", ["{", "{}", '{"config": {"optimizer.precision": "fp8"}}'])
def test_a_checkpoint_that_says_nothing_leaves_it_to_the_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str
) -> None:
    device_is_good_at(monkeypatch, "bf16")
    (tmp_path / "state.json").write_text(content)
    assert with_precision(AUTO, CPU, checkpoint=tmp_path, distributed=ALONE).optimizer.precision == "bf16"
