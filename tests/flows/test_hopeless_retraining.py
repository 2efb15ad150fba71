"""A retraining whose photos cannot be used is given up, so that the next one has the new uploads."""

from pathlib import Path

import pytest

from flows.parameters import RetrainParameters
from flows.retrain import retrain
from tests.toygan.retraining.shop import begun, champion_of, leave_photos, upload_enough, upload_new_category
from toygan.errors import BadInput, RunFailed
from toygan.retraining.plan import Attempt
from toygan.storage.memory import MemoryStore, named_memory_store

pytestmark = [pytest.mark.slow, pytest.mark.service, pytest.mark.usefixtures("flows_here")]


def shop(name: str, folder: Path) -> tuple[MemoryStore, Attempt]:
    """A store, and a retraining of its champion that has begun."""
    store = named_memory_store(name)
    champion_of(store, folder)
    upload_enough(store)
    return store, begun(store, folder / "work")


def run(store: MemoryStore, folder: Path, *, device: str = "cpu") -> None:
    retrain(
        RetrainParameters(
            store=store.uri,
            work=str(folder / "work"),
            photos=None,
            catalog=None,
            max_images=64,
            quiet_s=0,
            device=device,
        )
    )


def test_photos_that_cannot_be_compared_are_given_up(tmp_path: Path) -> None:
    store, attempt = shop("hopeless", tmp_path)
    leave_photos(attempt, "val", 9)
    with pytest.raises(RunFailed, match="only 9 photos"):
        run(store, tmp_path)
    upload_new_category(store, "car", {"val": 2})
    again = begun(store, tmp_path / "work")
    assert again.plan.contents.by_category["car"] == {"train": 5, "calibration": 1, "val": 7}


def test_a_trouble_that_passes_leaves_the_attempt_for_the_next_run(tmp_path: Path) -> None:
    store, attempt = shop("passing", tmp_path)
    (attempt.folder / "left-behind").touch()
    with pytest.raises(BadInput, match="the device cuda:99 was given"):
        run(store, tmp_path, device="cuda:99")
    assert begun(store, tmp_path / "work") == attempt
    assert (attempt.folder / "left-behind").exists()
