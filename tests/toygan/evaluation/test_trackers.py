"""Trackers take losses, the KID of a small sample and grids; without one nothing of them is imported."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.shards import eight_rows, write_shard
from tests.toygan.training.tiny import tiny
from toygan.errors import BadInput
from toygan.evaluation.trackers import AccelerateTracker, tracker
from toygan.training.limits import Limits
from toygan.training.tracking import StartTracker, tracked_by
from toygan.training.train import train

CPU = torch.device("cpu")
_UNTRACKED = """
import sys
import toygan.training.train, toygan.evaluation.evaluate
print(*({"accelerate", "mlflow", "tensorboard", "trackio", "wandb"} & sys.modules.keys()))
"""


class Recorder:
    """A tracker that keeps what a training gives it."""

    def __init__(self) -> None:
        self.reports: dict[int, Mapping[str, float]] = {}
        self.grids: dict[int, NDArray[np.uint8]] = {}
        self.samples: dict[int, tuple[Tensor, Tensor]] = {}
        self.options: Mapping[str, object] = {}
        self.is_finished = False

    def started(self, output: Path, options: Mapping[str, object]) -> "Recorder":
        self.options = options
        return self

    def report(self, values: Mapping[str, float], images_seen: int) -> None:
        self.reports[images_seen] = dict(values)

    def show(self, grid: NDArray[np.uint8], file: Path, images_seen: int) -> None:
        assert file.stem == f"{images_seen:010d}"
        assert file.is_file()
        self.grids[images_seen] = grid

    def compare(self, photos: Tensor, generated: Tensor, images_seen: int) -> None:
        self.samples[images_seen] = photos, generated

    def finish(self) -> None:
        self.is_finished = True


def run(tmp_path: Path, start: StartTracker) -> Path:
    photos = write_shard(tmp_path / "photos", eight_rows())
    with tracked_by(start):
        train(
            photos_uri=photos,
            output=tmp_path / "training",
            config=tiny(),
            device=CPU,
            limits=Limits(max_images=40, max_minutes=None),
        )
    return tmp_path / "training"


def test_a_training_gives_losses_grids_and_samples(tmp_path: Path) -> None:
    recorder = Recorder()
    run(tmp_path, recorder.started)
    assert list(recorder.reports) == [8, 16, 24, 32, 40]
    assert {"generator", "discriminator", "images_per_s"} <= recorder.reports[8].keys()
    assert set(recorder.grids) == set(recorder.samples) == {16, 32, 40}
    photos, generated = recorder.samples[32]
    assert photos.shape == generated.shape == (8, 3, 32, 32)
    assert photos.dtype == generated.dtype == torch.uint8
    assert torch.equal(photos, recorder.samples[16][0])
    assert recorder.options["data.batch_size"] == 4
    assert recorder.is_finished


@pytest.mark.slow
def test_tensorboard_shows_losses_kid_and_grids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # importing it fails: it is not needed
    folder = run(tmp_path, tracker("tensorboard"))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    tags = events.Tags()
    assert {"generator", "discriminator", "kid_x_1000"} <= set(tags["scalars"])
    assert [event.step for event in events.Scalars("kid_x_1000")] == [16, 32, 40]
    assert np.isfinite([event.value for event in events.Scalars("kid_x_1000")]).all()
    assert len(tags["images"]) == 1


def test_a_failing_tracker_does_not_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from accelerate.tracking import TensorBoardTracker

    def fail(self: object) -> None:
        raise ConnectionError("no server")

    monkeypatch.setattr(TensorBoardTracker, "start", fail)
    folder = run(tmp_path, lambda output, options: AccelerateTracker("tensorboard", output, options))
    assert (folder / "model" / "config.json").is_file()
    said = [each.getMessage() for each in caplog.records if "continues without it" in each.getMessage()]
    lost = "the tracker tensorboard failed (ConnectionError('no server')); the training continues without it"
    assert said == [lost]


def test_an_unknown_and_a_missing_tracker_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="no tracker 'excel'; known are tensorboard, mlflow, wandb, trackio"):
        tracker("excel")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match="--track wandb needs the package wandb: pip install wandb"):
        tracker("wandb")


@pytest.mark.slow
@pytest.mark.service
def test_trackers_are_not_imported_unless_asked_for() -> None:
    result = subprocess.run([sys.executable, "-c", _UNTRACKED], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
