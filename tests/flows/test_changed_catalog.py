"""Nights in which rows of the catalog change or are missing."""

from pathlib import Path
from typing import Any

import pytest

from catalog_schemas.images import REVIEW, read_current
from flows import steps
from flows.steps import run_here
from tests.catalog_schemas.tables import product, write_catalog
from tests.models import CATEGORIES, tiny_model
from tests.toygan.generation.disturbed_runs import store as store
from tests.toygan.generation.whole_runs import request, rows_of
from toygan.approval.checks import is_near_copy
from toygan.publishing.summary import RunSummary
from toygan.publishing.verify import verify
from toygan.review.record import decide
from toygan.storage.keys import CURRENT_KEY
from toygan.storage.memory import MemoryStore


class Shop:
    """A folder with a model, and a catalog that is written for each night."""

    def __init__(self, folder: Path, store: MemoryStore) -> None:
        self.folder, self.store, self.nights = folder, store, 0
        tiny_model(acceptance=1.0).write(folder / "tiny")

    def night(self, *rows: dict[str, Any], **changes: Any) -> RunSummary:
        self.nights += 1
        usual = [product(sku=f"other-{number}", category=CATEGORIES[0]) for number in range(3)]
        write_catalog(self.folder / "catalog.parquet", [*usual, *rows])
        summary = run_here(request(self.folder, run_id=f"night-{self.nights}", **changes), is_new=True)
        assert verify(self.store).problems == ()
        return summary

    def live(self, sku: str) -> dict[int, tuple[str, str]]:
        """The id of each live picture of a product and who decided, by its index."""
        rows = read_current(self.store.get(CURRENT_KEY)).to_pylist()
        return {row["image_index"]: (row["image_id"], row["decided_by"]) for row in rows if row["sku"] == sku}


@pytest.fixture
def shop(tmp_path: Path, store: MemoryStore) -> Shop:
    return Shop(tmp_path, store)


def test_pictures_of_an_old_row_beyond_those_wanted_are_withdrawn(shop: Shop) -> None:
    car = product(sku="car", category=CATEGORIES[0], images_wanted=3)
    shop.night(car)
    red = shop.live("car")
    assert sorted(red) == [0, 1, 2]
    shop.night(car | {"images_wanted": 1})
    assert shop.live("car") == red
    summary = shop.night(car | {"images_wanted": 1, "colour": "Blue"})
    assert sorted(shop.live("car")) == [0]
    assert shop.live("car")[0] != red[0]
    line = "2 pictures{}: of an older row, and beyond the number of pictures wanted"
    assert "withdrew " + line.format("") in summary.text()
    assert line.format(" withdrawn") in summary.markdown()


def test_a_rejected_picture_does_not_come_back_after_its_row_changes(shop: Shop) -> None:
    car = product(sku="car", category=CATEGORIES[0])
    shop.night(car)
    [rejected] = [row for row in rows_of(shop.store, "night-1") if row["sku"] == "car"]
    decide(shop.store, "reject", [rejected["image_id"]], by="Ann", reason=None)
    shop.night(car | {"description": "A car with four wheels."})
    again = [row for row in rows_of(shop.store, "night-2") if row["sku"] == "car"]
    assert again[0]["seed"] == rejected["seed"]
    assert (again[0]["decision"], again[0]["reasons"]) == ("rejected", ["near_copy"])
    assert again[-1]["decision"] == "approved"
    assert not is_near_copy(again[-1]["phash"], [rejected["phash"]])


def test_a_run_that_died_before_it_withdrew_them_does_so_when_it_is_repeated(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    car = product(sku="car", category=CATEGORIES[0])
    shop.night(car, images_per_product=3)
    with monkeypatch.context() as patched:
        patched.setattr(steps, "retire", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            shop.night(car | {"colour": "Blue"})
    assert sorted(shop.live("car")) == [0, 1, 2]
    run_here(request(shop.folder, run_id="night-2"), is_new=False)
    assert sorted(shop.live("car")) == [0]
    assert verify(shop.store).problems == ()


def test_a_product_that_is_missing_for_a_night_keeps_its_pictures(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """Also the one that Ann approved after the machine had not."""
    car, doll = (product(sku=sku, category=CATEGORIES[0]) for sku in ("car", "doll"))
    shop.night(doll)
    # of a model that approves nearly nothing
    strict = {"main": str(tiny_model(acceptance=0.001).write(shop.folder / "strict")), "retire": 0.5}
    assert shop.night(car, doll, **strict).manifest.counts["approved"] == 0
    [image_id] = [row["image_id"] for row in rows_of(shop.store, "night-2") if row["decision"] == REVIEW]
    decide(shop.store, "approve", [image_id], by="Ann", reason=None)
    before = shop.live("car"), shop.live("doll")
    assert before[0] == {0: (image_id, "Ann")}
    assert "withdrew 2 pictures: not in the catalog" in shop.night(**strict).text()
    assert (shop.live("car"), shop.live("doll")) == ({}, {})
    with caplog.at_level("INFO"):
        counts = shop.night(car, doll, **strict).manifest.counts
    assert (shop.live("car"), shop.live("doll")) == before
    assert (counts["planned"], counts["exhausted"], counts["unchanged"]) == (0, 0, 5)
    assert "2 pictures live again: in the catalog again" in caplog.text
