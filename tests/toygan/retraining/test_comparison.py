"""Which photos the comparison of two models uses."""

from pathlib import Path

from tests.models import tiny_model
from tests.toygan.retraining.shop import begun, champion_of, upload_enough, upload_new_category
from toygan.calibration.photos import photos_of
from toygan.retraining.snapshot import count_compared, known_products
from toygan.storage.memory import MemoryStore


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
