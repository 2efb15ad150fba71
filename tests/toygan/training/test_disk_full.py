"""A full disk ends a training with one line; with room again it goes on, and nothing is lost."""

import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import safetensors.torch
from torch import Tensor

from tests.toygan.training.tiny import tiny
from tests.toygan.training.trainings import final_files, run
from toygan.artifact import weights
from toygan.disk import disk_errors, new_folder, replace_file
from toygan.errors import BadInput, DiskFull
from toygan.training.checkpoint import checkpoint_folders


@contextmanager
def room_for(total_bytes: int) -> Iterator[None]:
    """No file may grow beyond `total_bytes`: the system answers as it does where a quota is used up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (total_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def leftovers(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.name.endswith((".tmp", ".old"))]


def cramp(monkeypatch: pytest.MonkeyPatch, total_bytes: int) -> None:
    """Weights and checkpoints find so much room."""

    def save_file(tensors: Mapping[str, Tensor], file: Path) -> None:
        with room_for(total_bytes):
            safetensors.torch.save_file(dict(tensors), file)

    monkeypatch.setattr(weights, "save_file", save_file)


def test_a_training_without_room_says_what_is_kept_and_goes_on_later(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(precision="fp32")
    run(shards, tmp_path / "undisturbed", max_images=40, config=config)
    output = tmp_path / "full"
    with monkeypatch.context() as now:
        cramp(now, 1000)
        with pytest.raises(DiskFull, match=r"full: the disk is full .* no checkpoint yet"):
            run(shards, output, max_images=16, config=config)
    assert leftovers(output) == []
    run(shards, output, max_images=16, config=config)
    largest = max(file.stat().st_size for file in (output / "model").iterdir())
    with monkeypatch.context() as now:
        cramp(now, largest + 500)  # room for the weights, not for all their moments
        with pytest.raises(DiskFull, match=r"the checkpoint and the model after 16 images are kept"):
            run(shards, output, max_images=32, config=config, resume=True)
    assert leftovers(output) == []
    assert [int(folder.name) for folder in checkpoint_folders(output)] == [16]
    run(shards, output, max_images=40, config=config, resume=True)
    assert final_files(output) == final_files(tmp_path / "undisturbed")


def test_photos_that_do_not_fit_are_said_to_need_room(shards: Path, tmp_path: Path) -> None:
    with room_for(5000), pytest.raises(DiskFull, match="make room there for the photos, or set TMPDIR"):
        run(shards, tmp_path, max_images=16, config=tiny())


def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    replace_file(file, b"old")
    full = pytest.raises(DiskFull, match=r"the disk is full .*; it stays")
    with full, disk_errors(tmp_path, "it stays"), room_for(100):
        replace_file(file, b"n" * 1000)
    assert file.read_bytes() == b"old"
    assert leftovers(tmp_path) == []


def test_a_folder_that_does_not_fit_leaves_the_old_one(tmp_path: Path) -> None:
    def fill(total_bytes: int) -> None:
        with disk_errors(tmp_path, "it stays"), new_folder(tmp_path / "model") as folder:
            (folder / "a").write_bytes(b"a")
            (folder / "b").write_bytes(bytes(total_bytes))

    fill(10)
    with room_for(100), pytest.raises(DiskFull):
        fill(1000)
    assert [(file.name, file.stat().st_size) for file in sorted((tmp_path / "model").iterdir())] == [
        ("a", 1),
        ("b", 10),
    ]
    assert leftovers(tmp_path) == []


def test_a_folder_that_may_not_be_written_is_the_users_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    refused = pytest.raises(BadInput, match=r"cannot be written .* give another folder")
    with refused, disk_errors(tmp_path, "nothing"), new_folder(tmp_path / "file" / "model"):
        pass
