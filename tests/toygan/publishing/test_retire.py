"""Pictures that the catalog no longer asks for."""

import os
from pathlib import Path

import pytest

from catalog_schemas.images import REVIEW
from tests.catalog_schemas.tables import product, write_catalog
from tests.toygan.review.shop import commit, live, picture
from toygan.errors import BadInput
from toygan.publishing import survey
from toygan.publishing.commit import complete_open_runs
from toygan.publishing.retire import NOT_IN_CATALOG, Gone, check_share, find_gone, retire
from toygan.publishing.verify import prune, verify
from toygan.review.record import decide
from toygan.storage.keys import CURRENT_KEY, DECIDED_KEY
from toygan.storage.memory import MemoryStore

ROWS = [picture(0, "run-1"), picture(1, "run-1"), picture(2, "run-1", REVIEW)]


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore()
    commit(made, "run-1", *ROWS)
    decide(made, "approve", [ROWS[2]["image_id"]], by="Ann", reason=None)
    return made


def catalog_of(folder: Path, *skus: str) -> str:
    return str(write_catalog(folder / "catalog.parquet", [product(sku=sku) for sku in ("other", *skus)]))


def withdraw(store: MemoryStore, gone: Gone) -> dict[str, int]:
    """What the run `run-2` does at its end."""
    return retire(store, "run-2", {NOT_IN_CATALOG: gone.pictures})


def test_pictures_of_gone_products_leave_the_live_table(store: MemoryStore, tmp_path: Path) -> None:
    gone = find_gone(store, catalog_of(tmp_path, "sku-0000"), {})
    assert (gone.products, gone.live_products) == (2, 3)
    assert withdraw(store, gone) == {"not in the catalog": 2}
    assert list(live(store)) == [("sku-0000", 0)]
    assert verify(store).problems == ()
    assert prune(store) == []
    assert withdraw(store, gone) == {"not in the catalog": 2}  # the run is repeated
    assert find_gone(store, catalog_of(tmp_path, "sku-0000"), {}).products == 0
    for key in (DECIDED_KEY, CURRENT_KEY):
        store.delete(key)
        complete_open_runs(store)
        assert list(live(store)) == [("sku-0000", 0)]
    assert verify(store).problems == ()


def test_a_bad_row_keeps_its_picture(store: MemoryStore, tmp_path: Path) -> None:
    rows = [product(sku="sku-0000"), product(sku="sku-0001", title=" "), product(sku="sku-0002")]
    gone = find_gone(store, str(write_catalog(tmp_path / "catalog.parquet", rows)), {})
    assert gone.products == 0
    assert withdraw(store, gone) == {}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_product_is_gone_while_a_folder_of_snapshots_cannot_be_read(
    store: MemoryStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("brick/sku-0000.jpg", "car/sku-0001.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"a picture")
    assert find_gone(store, str(tmp_path), {}).products == 1
    (tmp_path / "car").chmod(0)
    try:
        gone = find_gone(store, str(tmp_path), {})
    finally:
        (tmp_path / "car").chmod(0o700)
    assert (gone.products, gone.live_products) == (0, 3)
    assert withdraw(store, gone) == {}
    assert f"no product counts as gone, because a part of {tmp_path} cannot be read" in caplog.text


@pytest.mark.parametrize("line", ['sku-0001,car,"Car', '"sku-0001,car,Car'])
def test_no_product_is_gone_while_a_row_cannot_be_read(
    store: MemoryStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, line: str
) -> None:
    path = tmp_path / "catalog.csv"
    path.write_text(f"sku,category,title\n{line}\nsku-0000,car,Car\nother,car,Car\n")
    gone = find_gone(store, str(path), {})
    assert (gone.products, gone.live_products) == (0, 3)
    assert withdraw(store, gone) == {}
    assert f"no product counts as gone, because a part of {path} cannot be read" in caplog.text


def test_too_many_gone_products_ask_first(store: MemoryStore, tmp_path: Path) -> None:
    gone = find_gone(store, catalog_of(tmp_path, "sku-0000"), {})
    with pytest.raises(BadInput, match=r"2 of 3 .*Is the catalog complete\? .*--retire 0\.67$"):
        check_share(gone, 0.1)
    check_share(gone, 0.67)
    assert len(live(store)) == 3


def test_files_go_thirty_days_after(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    withdraw(store, find_gone(store, catalog_of(tmp_path, "sku-0000"), {}))
    monkeypatch.setattr(survey, "RETIRED_DAYS", 0)
    assert len(verify(store).problems) == 2  # left over
    assert sorted(prune(store)) == sorted(row["image_uri"] for row in ROWS[1:])
    assert verify(store).problems == ()


def test_a_person_can_bring_a_retired_picture_back(store: MemoryStore, tmp_path: Path) -> None:
    withdraw(store, find_gone(store, catalog_of(tmp_path, "sku-0000"), {}))
    decide(store, "approve", [ROWS[1]["image_id"]], by="Ann", reason=None)
    assert live(store)["sku-0001", 0] == (ROWS[1]["image_id"], "Ann")
    assert verify(store).problems == ()
