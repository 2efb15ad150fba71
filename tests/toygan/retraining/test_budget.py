"""A retraining fits the time that it is given, and says before how long it takes."""

from pathlib import Path

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from tests.models import CPU, tiny_model
from tests.toygan.retraining.shop import begun, leave_photos, upload_enough
from toygan.errors import BadInput, RunFailed
from toygan.registry.models import add_model
from toygan.registry.promotion import promote
from toygan.retraining import speeds as speeds_module
from toygan.retraining.budget import FEWEST_PICTURES, MEASURING_MINUTES, Budget, Speeds, make_budget
from toygan.retraining.plan import Attempt
from toygan.retraining.snapshot import Contents
from toygan.retraining.speeds import BUDGET, budget_of
from toygan.storage.memory import MemoryStore

TWO_CORES = Speeds(train_s=0.4, generate_s=0.08, look_s=0.04)  # of the bundled model, about
GPU = Speeds(train_s=0.002, generate_s=0.002, look_s=0.0005)


def contents(categories: int = 15, *, train: int = 100, val: int = 12) -> Contents:
    roles = {"train": train, "calibration": 10, "val": val}
    return Contents(
        uploads=categories * (train + val + 10),
        others=0,
        left_out={},
        titled=0,
        broken=0,
        by_category={f"category-{number}": roles for number in range(categories)},
    )


def budget(speeds: Speeds, of: Contents, *, max_images: int = 64_000, max_minutes: float = 360) -> Budget:
    return make_budget(
        speeds, of, batch_size=16, max_images=max_images, max_minutes=max_minutes, pictures=1000
    )


def test_two_plain_cores_are_done_in_a_night() -> None:
    found = budget(TWO_CORES, contents())
    assert found.images == 52_133
    assert (found.generated, found.profiled, found.pictures) == (100, 64, 540)
    assert found.training_s + found.measuring_s == pytest.approx(6 * 3600, rel=1e-3)
    calibrating_s, evaluating_s = 15 * (200 + 3 * 64) * 0.08, 2 * (540 * 0.12 + 1830 * 0.04)
    assert found.measuring_s == pytest.approx(calibrating_s + evaluating_s)
    assert found.measuring_s <= 20 * 60
    assert found.text().startswith("about 6 h 0 min: 5 h ")
    assert "that a threshold accepts is 5.0 points" in found.text()


def test_a_gpu_needs_minutes_for_all_images() -> None:
    found = budget(GPU, contents())
    assert found.images == 64_000
    assert found.text().startswith("about 2 min: ")


def test_many_categories_get_fewer_pictures_and_it_is_said() -> None:
    found = budget(TWO_CORES, contents(200, train=5))
    assert found.measuring_s <= 60 * MEASURING_MINUTES
    assert 1 <= found.generated < 100
    assert f"calibration with {found.generated} pictures" in found.text()


@given(
    speeds=st.builds(
        Speeds,
        train_s=st.floats(1e-4, 5),
        generate_s=st.floats(1e-4, 0.5),
        look_s=st.floats(1e-5, 0.2),
    ),
    categories=st.integers(1, 100),
    train=st.integers(1, 500),
    max_images=st.integers(1, 10**6),
    max_minutes=st.floats(1, 1000),
)
def test_no_retraining_takes_longer_than_it_may(
    speeds: Speeds, categories: int, train: int, max_images: int, max_minutes: float
) -> None:
    of = contents(categories, train=train)
    try:
        found = budget(speeds, of, max_images=max_images, max_minutes=max_minutes)
    except BadInput:
        reject()
    assert 1 <= found.images <= max_images
    assert found.training_s + found.measuring_s <= 60 * max_minutes * (1 + 1e-9)
    assert found.training_s <= found.training_limit_s * (1 + 1e-9)
    assert FEWEST_PICTURES <= found.pictures <= 1000


def test_too_little_time_is_refused_with_how_much_the_rest_takes() -> None:
    message = r"max_minutes is 1; calibration and evaluation take 3 min on this machine, .* give more minutes"
    with pytest.raises(BadInput, match=message):
        budget(TWO_CORES, contents(), max_minutes=1)


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    store = MemoryStore()
    promote(store, "tiny", add_model(store, tiny_model().write(tmp_path / "tiny"), "tiny"))
    upload_enough(store)
    return begun(store, tmp_path / "work")


@pytest.mark.slow
def test_the_speeds_are_tried_out_once(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file.name for file in attempt.folder.iterdir()}
    found = budget_of(attempt, max_minutes=60, pictures=60, device=CPU)
    assert found.images == attempt.plan.max_images
    assert found.pictures == 60
    assert found.training_s > 0
    assert found.measuring_s > 0
    assert {file.name for file in attempt.folder.iterdir()} == {*before, BUDGET}

    def again(*args: object) -> Speeds:
        raise AssertionError("tried out again")

    monkeypatch.setattr(speeds_module, "_try_out", again)
    assert budget_of(attempt, max_minutes=1, pictures=10, device=CPU) == found
    (attempt.folder / BUDGET).write_text("{}")
    with pytest.raises(RunFailed, match=r"budget\.json is damaged"):
        budget_of(attempt, max_minutes=60, pictures=60, device=CPU)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("left", "why"),
    [(0, "no usable photo of split 'val'"), (9, "only 9 photos of the champion's categories")],
)
def test_photos_that_cannot_be_compared_are_found_before_the_training(
    attempt: Attempt, left: int, why: str
) -> None:
    """As photos whose layouts are damaged: the snapshot has them, but no model can use them."""
    leave_photos(attempt, "val", left)
    with pytest.raises(RunFailed, match=why):
        budget_of(attempt, max_minutes=60, pictures=60, device=CPU)
