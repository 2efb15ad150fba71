"""A full disk ends a training with one line; with room again it goes on, and nothing is lost."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.toygan.training.test_resume import final_files, run
from tests.toygan.training.tiny import tiny
from toygan.disk import disk_errors, new_folder, replace_file
from toygan.errors import BadInput, DiskFull
from toygan.training.checkpoint import checkpoint_folders


@contextmanager
def room_for(total_bytes: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: the system answers as it does where a quota is used up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (total_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def leftovers(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.name.endswith((".tmp", ".old"))]


def test_a_training_without_room_says_what_is_kept_and_goes_on_later(shards: Path, tmp_path: Path) -> None:
    config = tiny(precision="fp32")
    run(shards, tmp_path / "undisturbed", 40, config)
    output = tmp_path / "full"
    with room_for(1000), pytest.raises(DiskFull, match=r"full: the disk is full .* no checkpoint yet"):
        run(shards, output, 16, config)
    assert leftovers(output) == []
    run(shards, output, 16, config)
    before = final_files(output)
    # The grid and the weights are small; what does not fit is the checkpoint with all its moments.
    largest = max(file.stat().st_size for file in (output / "model").iterdir())
    with room_for(largest + 5000), pytest.raises(DiskFull, match=r"kept is the checkpoint of 16 images"):
        run(shards, output, 32, config, resume=True)
    assert leftovers(output) == []
    assert [folder.name for folder in checkpoint_folders(output)] == ["0000000016"]
    kept = final_files(output)
    assert {name: kept[name] for name in before if "state" in name} == {
        name: before[name] for name in before if "state" in name
    }
    run(shards, output, 40, config, resume=True)
    assert final_files(output) == final_files(tmp_path / "undisturbed")


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
