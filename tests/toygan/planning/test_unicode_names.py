"""File names with accents: macOS may write a letter and its accent as two characters (NFD), a table as one
(NFC).
"""

import os
import unicodedata
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_schemas.validation import is_sku
from toygan.planning.catalog import Catalog, open_catalog
from toygan.planning.named_files import ConditionFileError
from toygan.storage.memory import named_memory_store
from toygan.storage.open_store import open_store

FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
forms = st.sampled_from(FORMS)
accented = (
    st.text(st.sampled_from("aeöüßéñçかがパ각힣2 \u0301"), min_size=1, max_size=12)
    .map(lambda name: unicodedata.normalize("NFC", name))
    .filter(lambda name: is_sku(name) and not unicodedata.combining(name[0]))
)


def rows_of(catalog: Catalog) -> pd.DataFrame:
    return pd.concat([batch.good for batch in catalog.stream()]).set_index("sku")


@settings(max_examples=15, deadline=None)
@given(category=accented, sku=accented, of_names=forms, of_table=forms)
def test_snapshots_meet_their_rows_in_any_form(
    tmp_path_factory: pytest.TempPathFactory,
    category: str,
    sku: str,
    of_names: Literal["NFC", "NFD"],
    of_table: Literal["NFC", "NFD"],
) -> None:
    shelf = tmp_path_factory.mktemp("shelf")
    folder = shelf / unicodedata.normalize(of_names, category)
    folder.mkdir()
    (folder / f"{unicodedata.normalize(of_names, sku)}.jpg").write_bytes(b"1")
    (folder / f"{unicodedata.normalize(of_names, f'{sku}-é')}.jpg").write_bytes(b"2")
    stated = unicodedata.normalize(of_table, sku)
    (shelf / "products.csv").write_text(f'sku,title\n"{stated}",Described\n', encoding="utf-8")
    with open_catalog(str(shelf)) as catalog:
        rows = rows_of(catalog)
        assert list(rows.index) == [stated, f"{sku}-é"]  # a table's own sku stays as it is
        assert list(rows["category"]) == [category, category]
        assert list(rows["title"]) == ["Described", f"{sku}-é"]
        assert [catalog.read_condition(uri) for uri in rows["photo_uri"]] == [b"1", b"2"]


@settings(max_examples=15, deadline=None)
@given(name=accented, of_name=forms, of_table=forms)
@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_table_names_a_file_in_any_form(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    name: str,
    of_name: Literal["NFC", "NFD"],
    of_table: Literal["NFC", "NFD"],
) -> None:
    folder = tmp_path_factory.mktemp("shop")
    uri = str(folder) if kind == "file" else f"memory://{folder.name}"
    store = open_store(uri)
    store.put(unicodedata.normalize(of_name, f"{name}/1.jpg"), b"1")
    path = unicodedata.normalize(of_table, f"{name}/1.jpg")
    store.put("c.csv", f'sku,category,title,photo_uri\n1,car,Car,"{path}"\n'.encode())
    with open_catalog(f"{uri}/c.csv") as catalog:
        [stated] = rows_of(catalog)["photo_uri"]
        assert catalog.read_condition(stated) == b"1"
        assert len(catalog.condition_sha256(stated)) == 64


def test_the_form_that_is_stated_comes_first() -> None:
    store = named_memory_store("forms")
    for form in FORMS:
        store.put(unicodedata.normalize(form, "ü.png"), form.encode())
    store.put("c.csv", b"sku,category,title\n1,car,Car\n")
    with open_catalog("memory://forms/c.csv") as catalog:
        for form in FORMS:
            assert catalog.read_condition(unicodedata.normalize(form, "ü.png")) == form.encode()


def test_another_form_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "c.csv").write_text("sku,category,title\n1,car,Car\n")
    (shop / unicodedata.normalize("NFD", "ü.png")).symlink_to(tmp_path / "secret.png")
    (shop / unicodedata.normalize("NFD", "ö")).symlink_to(tmp_path)
    (shop / unicodedata.normalize("NFD", "ä.png")).mkdir()
    with open_catalog(str(shop / "c.csv")) as catalog:
        for name in ("ü.png", "ö/secret.png"):
            with pytest.raises(ConditionFileError, match=f"^leaves_folder: {name}"):
                catalog.read_condition(name)
        with pytest.raises(ConditionFileError, match=r"^condition_file_unreadable: ä\.png"):
            catalog.read_condition("ä.png")


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_file_without_any_form_is_missing(tmp_path: Path, kind: str) -> None:
    uri = str(tmp_path) if kind == "file" else f"memory://{tmp_path.name}"
    open_store(uri).put("c.csv", b"sku,category,title\n1,car,Car\n")
    missing = pytest.raises(ConditionFileError, match=r"^condition_file_not_found: ü\.png")
    with open_catalog(f"{uri}/c.csv") as catalog, missing:
        catalog.read_condition("ü.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_described_product_waits_for_its_snapshot_in_a_closed_folder(tmp_path: Path) -> None:
    for category, sku in (("bälle", "A-1"), ("cars", "B-2")):
        folder = tmp_path / unicodedata.normalize("NFD", category)
        folder.mkdir()
        (folder / f"{sku}.jpg").write_bytes(b"1")
    (tmp_path / "products.csv").write_text("sku,title,category\nA-1,Ball,bälle\n", encoding="utf-8")
    closed = tmp_path / unicodedata.normalize("NFD", "bälle")
    closed.chmod(0)
    try:
        with open_catalog(str(tmp_path)) as catalog, pytest.raises(ConditionFileError, match="unreadable"):
            catalog.read_condition(rows_of(catalog).loc["A-1", "photo_uri"])
    finally:
        closed.chmod(0o700)
