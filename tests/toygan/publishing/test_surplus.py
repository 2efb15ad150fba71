"""A product wants fewer pictures than it has, and its row has changed."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from catalog_schemas.images import APPROVED, REVIEW
from tests.catalog_schemas.tables import product, write_catalog
from tests.toygan.generation.runs import candidate
from tests.toygan.planning.plans import freeze
from tests.toygan.review.shop import commit, live
from toygan.planning import catalog as catalog_module
from toygan.planning import rows as rows_module
from toygan.planning.summaries import read_summaries
from toygan.publishing.retire import SURPLUS, find_surplus, replaced, retire
from toygan.publishing.verify import verify
from toygan.review.record import decide
from toygan.storage.keys import review_key
from toygan.storage.memory import MemoryStore


class Shop:
    """Three pictures of a red car are live, and one of a brick that wants one."""

    def __init__(self, folder: Path) -> None:
        self.store, self.folder = MemoryStore(), folder
        self.rows = {"car": product(sku="car", images_wanted=3), "brick": product(sku="brick")}
        self.nights = 0
        self.night()

    def night(self, decision: str = APPROVED, images_per_product: int = 1) -> dict[str, int]:
        """Makes what is planned; returns what is withdrawn."""
        self.nights += 1
        run_id = f"night-{self.nights}"
        path = write_catalog(self.folder / f"{run_id}.parquet", list(self.rows.values()))
        surplus = find_surplus(read_summaries(self.store), str(path), {}, images_per_product)
        slots = freeze(self.store, path, run_id, images_per_product=images_per_product)[1]
        made = [candidate(slot, run_id) | {"decision": decision} for slot in slots]
        made = [row | {"sha256": sha256(row["image_id"].encode()).hexdigest()} for row in made]
        if decision == REVIEW:
            made = [row | {"image_uri": review_key(run_id, row["image_id"], "webp")} for row in made]
        self.made = made
        commit(self.store, run_id, *made)
        return retire(self.store, run_id, {SURPLUS: replaced(surplus, read_summaries(self.store))})

    def change(self, **changes: Any) -> None:
        self.rows["car"] |= changes

    def live(self) -> list[int]:
        """The indices of the car's live pictures."""
        return [index for sku, index in live(self.store) if sku == "car"]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_the_run_that_replaces_the_first_picture_withdraws_the_others(shop: Shop) -> None:
    shop.change(images_wanted=1)
    assert (shop.night(), shop.live()) == ({}, [0, 1, 2])  # of an unchanged row
    shop.change(colour="Blue")
    assert (shop.night(), shop.live()) == ({SURPLUS: 2}, [0])
    assert live(shop.store)["car", 0] == (shop.made[0]["image_id"], "machine")
    assert (shop.night(), shop.live()) == ({}, [0])
    assert ("brick", 0) in live(shop.store)
    assert verify(shop.store).problems == ()


def test_a_picture_that_is_wanted_stays_until_it_is_replaced(shop: Shop) -> None:
    shop.change(images_wanted=2, colour="Blue")
    shop.night(REVIEW)
    assert shop.live() == [0, 1, 2]
    decide(shop.store, "approve", [shop.made[0]["image_id"]], by="Ann", reason=None)
    assert (shop.night(), shop.live()) == ({SURPLUS: 1}, [0, 1])


def test_without_a_new_picture_the_old_ones_stay(shop: Shop) -> None:
    shop.change(images_wanted=1, colour="Blue")
    assert (shop.night(REVIEW), shop.live()) == ({}, [0, 1, 2])
    decide(shop.store, "approve", [shop.made[0]["image_id"]], by="Ann", reason=None)
    assert (shop.night(), shop.live()) == ({SURPLUS: 2}, [0])


def test_the_setting_of_the_run_counts_for_rows_without_a_number(shop: Shop) -> None:
    shop.change(images_wanted=None, colour="Blue")
    assert (shop.night(images_per_product=2), shop.live()) == ({SURPLUS: 1}, [0, 1])


def test_pictures_of_an_old_row_that_are_wanted_again_are_made_anew(shop: Shop) -> None:
    shop.change(images_wanted=1, colour="Blue")
    shop.night()
    shop.change(images_wanted=3)
    assert (shop.night(), shop.live()) == ({}, [0, 1, 2])
    assert [row["image_index"] for row in shop.made] == [1, 2]


def test_a_catalog_without_pictures_beyond_is_not_read_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.change(images_wanted=1, colour="Blue")
    shop.night()
    opened = []

    def count(*arguments: Any) -> Any:
        opened.append(arguments)
        return catalog_module.open_catalog(*arguments)

    monkeypatch.setattr(rows_module, "open_catalog", count)
    shop.night()
    assert opened == []
