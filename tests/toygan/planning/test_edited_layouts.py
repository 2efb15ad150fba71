"""Rows that make their layouts from those of other rows, as they are planned."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from catalog_schemas.validation import REJECTED_ROWS, read_parquet_bytes
from tests.catalog_schemas.tables import product, write_catalog
from tests.toygan.generation.runs import MODELS
from toygan.conditions.colour_table import COLOURS, LAYOUT_LABELS, label_of
from toygan.images import decode_labels, encode_labels
from toygan.planning.catalog import open_catalog
from toygan.planning.catalog_check import look_at_catalog
from toygan.planning.condition_files import read_kept
from toygan.planning.edited_layouts import Edit
from toygan.planning.plan import ModelScope, RunSettings, Slot, freeze_plan, load_shard
from toygan.storage.keys import rejected_rows_key
from toygan.storage.memory import MemoryStore
from toygan.storage.store import ObjectStore

RED, BLUE, GREEN = 5, 9, 8
SETTINGS = RunSettings(models={**MODELS, "layout": "masks@222222222222"})
SCOPES = {
    "main": ModelScope(categories=frozenset({"brick"})),
    "layout": ModelScope(categories=frozenset({"brick"}), layout_classes=14),
}


def car() -> NDArray[np.uint8]:
    labels = np.zeros((32, 32), np.uint8)
    labels[8:24, 4:28], labels[20:26, 8:12] = RED, 1
    return labels


def hat() -> NDArray[np.uint8]:
    labels = np.zeros((32, 32), np.uint8)
    labels[4:8, 10:20], labels[8:20, 12:18] = BLUE, GREEN
    return labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "car.png").write_bytes(encode_labels(car()))
    (tmp_path / "hat.png").write_bytes(encode_labels(hat()))
    (tmp_path / "small.png").write_bytes(encode_labels(hat()[::2, ::2].copy()))
    (tmp_path / "text.png").write_bytes(b"no picture")
    return tmp_path


CAR = product(sku="car", layout_uri="car.png")
HAT = product(sku="hat", layout_uri="hat.png")


def freeze(store: ObjectStore, folder: Path, rows: list[dict[str, Any]], run_id: str = "r") -> list[Slot]:
    path = write_catalog(folder / "catalog.parquet", rows)
    plan = freeze_plan(store, run_id, str(path), SETTINGS, SCOPES)  # type: ignore[arg-type]
    return [slot for shard in range(len(plan.shards)) for slot in load_shard(store, run_id, shard)]


def layout(store: ObjectStore, slots: list[Slot], sku: str) -> NDArray[np.uint8]:
    (slot,) = (slot for slot in slots if slot.sku == sku)
    assert slot.image_condition == "layout"
    return decode_labels(read_kept(store, slot.condition_sha256["layout"]))


def reasons(store: ObjectStore, run_id: str = "r") -> dict[str, tuple[str, str]]:
    key = rejected_rows_key(run_id)
    rows = read_parquet_bytes(store.get(key), REJECTED_ROWS, key).to_pylist()
    return {row["sku"]: (row["column"], row["reason"]) for row in rows}


def test_a_variant_has_the_layout_of_its_product_in_other_colours(folder: Path) -> None:
    store = MemoryStore()
    blue = product(sku="blue", variant_of="car", recolour="red=blue, black = red")
    own = product(sku="own", layout_uri="car.png", recolour="红色=蓝")
    slots = freeze(store, folder, [blue, CAR, own, product(sku="same", variant_of="car")])
    base = car()
    assert np.array_equal(layout(store, slots, "car"), base)
    assert np.array_equal(layout(store, slots, "same"), base)
    wanted = np.where(base == RED, BLUE, np.where(base == 1, RED, base))
    assert np.array_equal(layout(store, slots, "blue"), wanted)
    assert np.array_equal(layout(store, slots, "own"), np.where(base == RED, BLUE, base))


def test_a_row_recolours_its_own_layout_without_a_column_variant_of(folder: Path) -> None:
    (folder / "own.csv").write_text(
        "sku,category,title,layout_uri,recolour\nown,brick,A red car,car.png,red=blue\n"
    )
    with open_catalog(str(folder / "own.csv")) as catalog:
        (row,) = next(catalog.stream()).good.to_dict("records")
        made = decode_labels(catalog.read_condition(row["layout_uri"]))
    assert np.array_equal(made, np.where(car() == RED, BLUE, car()))


def test_a_folder_of_snapshots_has_edited_layouts_too(folder: Path) -> None:
    shelf = folder / "shelf"
    (shelf / "brick").mkdir(parents=True)
    (shelf / "brick" / "A-1.jpg").write_bytes(b"a snapshot")
    (shelf / "car.png").write_bytes((folder / "car.png").read_bytes())
    (shelf / "products.csv").write_text(
        "sku,category,title,layout_uri,variant_of,recolour\n"
        "car,brick,A red car,car.png,,\nblue,brick,A blue car,,car,red=blue\n"
    )
    with open_catalog(str(shelf)) as catalog:
        rows = next(catalog.stream()).good.set_index("sku")
        made = decode_labels(catalog.read_condition(rows.loc["blue", "layout_uri"]))
    assert np.array_equal(made, np.where(car() == RED, BLUE, car()))


@pytest.mark.parametrize("other", ["hat", "small"])
def test_a_product_is_dressed_with_the_parts_of_another(other: str, folder: Path) -> None:
    store = MemoryStore()
    small = product(sku="small", layout_uri="small.png")
    dressed = product(sku="dressed", variant_of="car", recolour="red=white", dress_from=f"{other}=blue,8")
    slots = freeze(store, folder, [CAR, HAT, small, dressed])
    recoloured = np.where(car() == RED, 4, car())
    wanted = np.where(hat() > 0, hat(), recoloured)
    assert np.array_equal(layout(store, slots, "dressed"), wanted)


BAD = {
    "unknown": (
        {"variant_of": "nothing", "recolour": "red=blue"},
        "variant_of",
        "no_row_with_layout: nothing",
    ),
    "itself": ({"variant_of": "itself"}, "variant_of", "no_row_with_layout: itself"),
    "both": ({"variant_of": "car", "layout_uri": "car.png"}, "variant_of", "has_layout"),
    "photo": ({"variant_of": "car", "photo_uri": "car.png"}, "variant_of", "has_photo"),
    "none": ({"recolour": "red=blue"}, "recolour", "has_no_layout"),
    "form": ({"variant_of": "car", "recolour": "red"}, "recolour", "malformed"),
    "colour": ({"variant_of": "car", "recolour": "red=gruen"}, "recolour", "unknown_label: gruen"),
    "ground": ({"variant_of": "car", "recolour": "red=0"}, "recolour", "unknown_label: 0"),
    "absent": (
        {"variant_of": "car", "recolour": "green=blue"},
        "layout_uri",
        "label_not_in_layout: 8 in car.png",
    ),
    "dress": ({"variant_of": "car", "dress_from": "hut=blue"}, "dress_from", "no_row_with_layout: hut"),
    "part": (
        {"variant_of": "car", "dress_from": "hat=red"},
        "layout_uri",
        "label_not_in_layout: 5 in hat.png",
    ),
}


def test_rows_that_can_have_no_layout_are_set_aside_with_the_reason(folder: Path) -> None:
    store = MemoryStore()
    rows = [product(sku=sku, **columns) for sku, (columns, _, _) in BAD.items()]
    slots = freeze(store, folder, [*rows, CAR, HAT])
    assert [slot.sku for slot in slots] == ["car", "hat"]
    assert reasons(store) == {sku: (column, reason) for sku, (_, column, reason) in BAD.items()}
    found = look_at_catalog(str(folder / "catalog.parquet"), {})
    assert (found.good, found.set_aside) == (2, len(BAD))


def test_a_layout_that_is_no_picture_sets_its_variants_aside(folder: Path) -> None:
    store = MemoryStore()
    bad = product(sku="bad", layout_uri="text.png")
    freeze(store, folder, [CAR, bad, product(sku="of-bad", variant_of="bad", recolour="red=blue")])
    column, reason = reasons(store)["of-bad"]
    assert (column, reason.partition(": text.png")[0]) == ("layout_uri", "condition_file_unusable")


def test_a_changed_base_gives_its_variants_new_pictures(folder: Path) -> None:
    rows = [CAR, product(sku="blue", variant_of="car", recolour="red=blue")]
    before = {slot.sku: slot.row_fingerprint for slot in freeze(MemoryStore(), folder, rows)}
    (folder / "car.png").write_bytes(encode_labels(np.roll(car(), 2, 1)))
    after = {slot.sku: slot.row_fingerprint for slot in freeze(MemoryStore(), folder, rows)}
    assert before["blue"] != after["blue"]
    assert len({*before.values(), *after.values()}) == 4


def test_a_csv_can_make_layouts(folder: Path) -> None:
    (folder / "catalog.csv").write_text(
        "sku,category,title,layout_uri,variant_of,recolour,dress_from\n"
        "car,brick,Car,car.png,,,\n"
        "hat,brick,Hat,hat.png,,,\n"
        'both,brick,"Car, blue",,car,red=blue;black=white,"hat=blue,green"\n',
        encoding="utf-8",
    )
    found = look_at_catalog(str(folder / "catalog.csv"), {})
    assert (found.good, found.set_aside, found.others) == (3, 0, ())


def test_every_colour_and_label_has_a_name() -> None:
    for number, name in enumerate(LAYOUT_LABELS[1:], 1):
        assert label_of(name) == label_of(str(number)) == number
    for colour in COLOURS:
        for name in (*colour.english, *colour.chinese, *(f"{each}色" for each in colour.chinese)):
            assert label_of(f" {name.upper()} ") is not None
    assert [label_of(name) for name in ("background", "", "256", "-1", "reddish")] == [None] * 5


LABELS = st.integers(1, 255)


@settings(deadline=None)
@given(
    st.text(min_size=1),
    st.lists(st.tuples(LABELS, LABELS), max_size=4),
    st.none() | st.text(min_size=1),
    st.lists(LABELS, min_size=1, max_size=4),
)
def test_the_name_of_an_edited_layout_says_how_it_is_made(
    base: str, recolour: list[tuple[int, int]], other: str | None, labels: list[int]
) -> None:
    edit = Edit(
        base=base,
        recolour=tuple(recolour),
        dress_from=other,
        dress_labels=tuple(labels) if other is not None else (),
    )
    assert edit.name == base if not recolour and other is None else Edit.named(edit.name) == edit
