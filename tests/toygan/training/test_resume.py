"""A training that stops, however it stops, goes on as if nothing had happened: bit for bit, in bf16."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.toygan.training.tiny import tiny
from tests.toygan.training.trainings import final_files, run
from toygan.artifact import weights
from toygan.data.augment import AdaptiveAugmentation
from toygan.training.checkpoint import checkpoint_folders

REPOSITORY = Path(__file__).parents[3]


def log_counts(output: Path) -> list[int]:
    return [json.loads(line)["images_seen"] for line in (output / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "stops", [[20, 36], *(pytest.param(each, marks=pytest.mark.slow) for each in ([4], [16], [60]))]
)
def test_bit_for_bit(shards: Path, tmp_path: Path, stops: list[int]) -> None:
    """Stops on a checkpoint, between two, several times and at the end."""
    config = tiny(precision="bf16")
    run(shards, tmp_path / "undisturbed", max_images=60, config=config)
    for number, images in enumerate([*stops, 60]):
        run(shards, tmp_path / "resumed", max_images=images, config=config, resume=number > 0)

    states = [
        load_file(checkpoint_folders(tmp_path / name)[-1] / "state.safetensors")
        for name in ("undisturbed", "resumed")
    ]
    kinds = {key.split("/")[0] for key in states[0]}
    assert kinds == {"generator", "discriminator", "ema", "generator_optimizer", "discriminator_optimizer"}
    assert states[0].keys() == states[1].keys()
    differing = [key for key, value in states[0].items() if not torch.equal(value, states[1][key])]
    assert differing == []
    resumed = final_files(tmp_path / "resumed")
    for name, data in final_files(tmp_path / "undisturbed").items():
        assert resumed[name] == data, name
    assert log_counts(tmp_path / "resumed") == log_counts(tmp_path / "undisturbed")


@pytest.mark.slow
def test_bit_for_bit_with_an_adaptive_augmentation(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stops between two moves of its probability, which rises and falls by 0.25 at a time."""
    adaptive = partial(AdaptiveAugmentation, target=0.01)
    monkeypatch.setattr("toygan.training.state.AdaptiveAugmentation", adaptive)
    config = tiny(augmentation_ramp_images=64)
    run(shards, tmp_path / "undisturbed", max_images=100, config=config)
    for number, images in enumerate([28, 60, 100]):
        run(shards, tmp_path / "resumed", max_images=images, config=config, resume=number > 0)
    resumed = final_files(tmp_path / "resumed")
    for name, data in final_files(tmp_path / "undisturbed").items():
        assert resumed[name] == data, name
    lines = [json.loads(line) for line in (tmp_path / "resumed" / "log.jsonl").read_text().splitlines()]
    probabilities = {line["augmentation_probability"] for line in lines}
    assert len(probabilities) > 1
    assert probabilities <= {0.0, 0.25, 0.5, 0.75, 0.8, 0.55, 0.3, 0.05}


def test_the_log_is_cut_to_the_checkpoint(shards: Path, tmp_path: Path) -> None:
    config = tiny()
    run(shards, tmp_path, max_images=32, config=config)
    with (tmp_path / "log.jsonl").open("a") as lines:
        lines.write('{"images_seen": 40, "generator": 0.0}\n{"images_seen": 48, "gener')
    run(shards, tmp_path, max_images=48, config=config, resume=True)
    assert log_counts(tmp_path) == [8, 16, 24, 32, 40, 48]
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[4])["generator"] != 0.0


class Died(BaseException):
    """Nothing in the code may catch this."""


def die_at(moment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call that changes the disk counts; the one with the number `moment` is the last, and writes only
    half."""
    calls = 0

    def patch(owner: Any, name: str, half: Callable[..., Any] | None = None) -> None:
        real = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls <= moment:
                return real(*args, **kwargs)
            if calls == moment + 1 and half is not None:
                half(*args)
            raise Died

        monkeypatch.setattr(owner, name, counted)

    def half_a_file(file: Path, data: bytes | str) -> None:
        raw = data.encode() if isinstance(data, str) else data
        with file.open("wb") as target:
            target.write(raw[: len(raw) // 2])

    def half_a_folder(folder: Path, **_: Any) -> None:
        for file in sorted(folder.glob("*"))[:1]:
            file.unlink()

    patch(weights, "save_file", lambda tensors, file: file.write_bytes(b"\x10"))
    patch(shutil, "rmtree", half_a_folder)
    for name in ("rename", "replace", "mkdir"):
        patch(Path, name)
    for name in ("write_bytes", "write_text"):
        patch(Path, name, half_a_file)


@pytest.mark.slow
def test_death_at_every_moment_that_changes_the_disk(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny(log_every_images=4, checkpoint_every_images=4)
    models = {}
    for images in (4, 8, 12):
        run(shards, tmp_path / "undisturbed", max_images=images, config=config, resume=True)
        models[images] = {
            file.name: file.read_bytes() for file in (tmp_path / "undisturbed" / "model").iterdir()
        }
    undisturbed = final_files(tmp_path / "undisturbed")

    moment, died = 0, True
    while died:
        output = tmp_path / f"died-{moment}"
        output.mkdir()
        with pytest.MonkeyPatch.context() as monkeypatch:
            die_at(moment, monkeypatch)
            try:
                run(shards, output, max_images=12, config=config)
                died = False
            except Died:
                moment += 1
        model = output / "model"
        if model.exists():
            images_seen = json.loads((model / "config.json").read_text())["training"]["images_seen"]
            assert {file.name: file.read_bytes() for file in model.iterdir()} == models[images_seen]
        run(shards, output, max_images=12, config=config, resume=True)
        assert final_files(output) == undisturbed, f"moment {moment}"
        assert log_counts(output) == [4, 8, 12]
        assert list(output.rglob("*.tmp")) == list(output.rglob("*.old")) == []
        shutil.rmtree(output)
    assert moment > 40


SCRIPT = """
import sys
from pathlib import Path
import torch
from tests.toygan.training.tiny import tiny
from tests.toygan.training.trainings import final_files, run
from toygan.training.limits import Limits
from toygan.training.train import train
train(photos_uri=Path(sys.argv[1]), output=Path(sys.argv[2]), config=tiny(), device=torch.device("cpu"),
      limits=Limits(max_images=1_000_000))
"""


@pytest.mark.service
def test_sigkill(shards: Path, tmp_path: Path) -> None:
    output = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(shards), str(output)],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline_s = time.monotonic() + 300
        while len(checkpoint_folders(output)) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        time.sleep(0.037)  # somewhere between two checkpoints, or within one
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    killed_at = int(checkpoint_folders(output)[-1].name)
    end = killed_at + 20
    run(shards, output, max_images=end, config=tiny(), resume=True)
    run(shards, tmp_path / "undisturbed", max_images=end, config=tiny())
    resumed = final_files(output)
    for name, data in final_files(tmp_path / "undisturbed").items():
        assert resumed[name] == data, name
    assert log_counts(output) == log_counts(tmp_path / "undisturbed")


@pytest.mark.slow
def test_fp16_resumes_with_its_loss_scale(shards: Path, tmp_path: Path) -> None:
    """The scale of the losses grows and shrinks with what came before: it is a part of the state."""
    config = tiny(precision="fp16")
    run(shards, tmp_path / "whole", max_images=48, config=config)
    run(shards, tmp_path / "halves", max_images=20, config=config)
    run(shards, tmp_path / "halves", max_images=48, config=config, resume=True)
    whole, halves = (checkpoint_folders(tmp_path / name)[-1] for name in ("whole", "halves"))
    scalers = json.loads((whole / "state.json").read_bytes())["extras"]["scalers"]
    assert scalers["generator_optimizer"]["scale"] >= 1.0
    assert json.loads((halves / "state.json").read_bytes())["extras"]["scalers"] == scalers
    first, second = (load_file(each / "state.safetensors") for each in (whole, halves))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(value.isfinite().all() for value in first.values())
