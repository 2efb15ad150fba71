"""Which photos the comparison of two models uses, and what becomes of an attempt that cannot be compared."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import CPU, tiny_model
from tests.toygan.retraining.evaluations import evaluation
from tests.toygan.retraining.shop import begun, champion_of, leave_photos, upload_enough, upload_new_category
from toygan.artifact.files import ModelFiles
from toygan.calibration.photos import photos_of
from toygan.errors import DiskFull, RunFailed, StoreUnavailable
from toygan.images import encode
from toygan.retraining import comparison
from toygan.retraining.comparison import CARD, Outcome, compare, read_outcome
from toygan.retraining.decide import Decision
from toygan.retraining.plan import Attempt
from toygan.retraining.request import Limits
from toygan.retraining.snapshot import count_compared, known_products
from toygan.storage.memory import MemoryStore

CHALLENGER = tiny_model(seed=7)


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    store = MemoryStore()
    champion_of(store, tmp_path)
    upload_enough(store)
    return begun(store, tmp_path / "work")


def compared(attempt: Attempt) -> Outcome:
    files = ModelFiles(name="tiny", version=CHALLENGER.version, files=CHALLENGER.files)
    return compare(attempt, files, pictures=60, limits=Limits(), device=CPU)


def test_the_photos_that_are_compared_are_counted(tmp_path: Path) -> None:
    """One product to learn from and one of val are in a new category, too, so no comparison uses them."""
    store = MemoryStore()
    champion_of(store, tmp_path)
    upload_enough(store)
    upload_new_category(store, "robot", {"train": 20, "calibration": 2, "val": 3}, first=4)
    attempt = begun(store, tmp_path / "work")
    model = tiny_model().load()
    counts = count_compared(attempt.photos, model.categories)
    is_known = known_products(attempt.photos, model.categories)
    val, train = (
        len(photos_of(model, attempt.photos, split=split, keep_sku=is_known)) for split in ("val", "train")
    )
    assert (counts["val"], counts["train"] + counts["calibration"]) == (val, train)
    assert counts == {"train": 12, "calibration": 3, "val": 12}


@pytest.mark.parametrize(
    ("left", "why"), [(9, "9 photos of val are too few; at least 10 are needed"), (0, "no usable photo")]
)
def test_an_attempt_with_too_few_photos_is_hopeless(attempt: Attempt, left: int, why: str) -> None:
    leave_photos(attempt, "val", left)
    with pytest.raises(RunFailed, match=why):
        compared(attempt)


def test_the_card_names_the_version_that_is_published(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layouts of the uploads are added after the measurement and change the version."""
    measured = iter(
        [
            evaluation((0.02, 0.003), 0.6, version=CHALLENGER.version),
            evaluation((0.05, 0.004), version=attempt.plan.version),
        ]
    )
    monkeypatch.setattr(comparison, "evaluate", lambda *args, **options: next(measured))
    monkeypatch.setattr(comparison, "decide", lambda *args, **options: Decision(rules=()))
    monkeypatch.setattr(comparison, "_bank_of_uploads", lambda *args: b"a bank with more layouts")
    grids = attempt.training / "grids"
    grids.mkdir(parents=True)
    (grids / "0000000064.png").write_bytes(encode(np.zeros((8, 8, 3), np.uint8), "png"))
    outcome = compared(attempt)
    assert outcome.challenger.version != CHALLENGER.version
    assert outcome.files[CARD].decode().startswith(f"# {outcome.challenger}\n")
    assert read_outcome(attempt) == outcome


@pytest.mark.parametrize("passing", [DiskFull, StoreUnavailable])
def test_a_passing_trouble_stays_one(
    attempt: Attempt, passing: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise passing("a retry may help")

    monkeypatch.setattr(comparison, "evaluate", fail)
    with pytest.raises(passing, match="a retry may help"):
        compared(attempt)
