"""Layout banks in files, and joined ones."""

import contextlib
import io
import json
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.toygan.artifact.layout_banks import (
    AT,
    DARK_RED,
    GLASS_RED,
    GREEN,
    RED,
    SIDE,
    brick,
    known,
    layout,
    of,
    photos,
    read,
    text,
    toys,
)
from tests.toygan.artifact.layout_banks import finishes as finishes
from toygan.artifact.colour_labels import ColourLabels
from toygan.artifact.layout_bank import LayoutBank
from toygan.errors import ModelError
from toygan.images import encode_labels
from toygan.training import layout_bank as making


@pytest.mark.parametrize("say_finish", [False, True])
def test_they_are_the_same_when_they_are_read_again(say_finish: bool) -> None:
    before = replace(known(), say_finish=say_finish)
    after = read(before.to_file())
    assert after.say_finish == say_finish
    assert after.to_file() == before.to_file()
    for seed in range(8):
        one, other = (each.choose(brick(GREEN), text(AT), seed) for each in (before, after))
        assert (one.layout == other.layout).all()
        assert (one.lines == other.lines).all()


def test_those_of_another_model_do_not_fit() -> None:
    with pytest.raises(ModelError, match="its texts have 3 numbers, but those of the model have 4"):
        read(known().to_file(), text_size=4)


def rewritten(**changes: Any) -> bytes:
    """A file whose columns or whose metadata say something else."""
    table = pq.read_table(io.BytesIO(known().to_file()))
    said = json.loads(table.schema.metadata[b"toygan"])
    said |= {name: value for name, value in changes.items() if name in said}
    for name, value in changes.items():
        if name in table.column_names:
            place = table.column_names.index(name)
            column = pa.array([value] * table.num_rows, table.schema.field(name).type)
            table = table.set_column(place, name, column)
    if "rows" in changes:
        table = pa.concat_tables([table] * 2000).slice(0, changes["rows"])
    file = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({b"toygan": json.dumps(said)}), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no parquet", "cannot be read"),
        (rewritten(rows=0), "the layout bank is empty"),
        (rewritten(colour_labels={"red": 5}), "colour 'red' is malformed"),
        (rewritten(colour_labels={RED: 14}), "labels lie in 0..13"),
        (rewritten(colour_labels=[RED]), "cannot be read"),
        (rewritten(colour_labels={RED: float("inf")}), "cannot be read"),
        (rewritten(rows=8193), "8193 layouts with .* limits are 8192 layouts and"),
        (rewritten(labels=[200]), "labels lie in 0..13"),
        (rewritten(text=b"\0"), "cannot be read"),
        (rewritten(text=b"\x00\x7c" * 3), "not finite"),
        (rewritten(text_size="many"), "cannot be read"),
    ],
)
def test_a_file_that_says_something_else_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        read(content)


@given(st.data())
@settings(max_examples=300)
@pytest.mark.slow
def test_no_damage_goes_unnoticed_or_does_harm(data: st.DataObject) -> None:
    """A few bytes changed, or the end cut off: it is refused, or says something of the same form."""
    content = bytearray(known().to_file())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    with contextlib.suppress(ModelError):
        found = read(bytes(content[:end]))
        found.choose(brick(), text(AT), 0)


@pytest.mark.parametrize("temperature", [0, -1.0, float("inf"), float("nan"), True, "0.1", 10**400])
def test_an_unusable_temperature_is_refused(temperature: object) -> None:
    with pytest.raises(ModelError, match=r"temperature|too large"):
        LayoutBank.from_file(known().to_file(), temperature, text_size=3, classes=14)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"layout": b"PNG"}, "a layout of the layout bank: "),
        ({"lines": b"PNG"}, "a layout of the layout bank: "),
        ({"layout": encode_labels(np.zeros((4, 8), np.uint8))}, "8 x 4 pixels; it must be square"),
        ({"layout": encode_labels(np.zeros((513, 513), np.uint8))}, "513 x 513 pixels"),
        (
            {"layout": encode_labels(np.full((SIDE, SIDE), 14, np.uint8))},
            r"holds the label 14; labels lie in 0\.\.13",
        ),
    ],
)
def test_a_damaged_drawing_is_named_when_it_is_chosen(damage: dict[str, bytes], said: str) -> None:
    damaged = read(rewritten(**damage))
    with pytest.raises(ModelError, match=said):
        damaged.choose(brick(), text(AT), 0)


def test_what_an_earlier_model_knew_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, also where the photos show the same, of their categories, and so far as there is room."""
    tower = photos(("tower", layout(6), "#D67923", (), AT), ("car", layout(6), "#D67923", (), AT))
    more = of(tower, temperature=0.2, earlier=known())
    assert Counter(more.categories) == {"tower": 1, "car": 4}
    assert more.temperature == 0.2
    assert (more.colour_labels("#D67923"), more.colour_labels(GLASS_RED)) == (6, 12)
    assert len(of(toys(), earlier=known()).categories) == len(toys())
    monkeypatch.setattr(making, "MOST_KNOWN", 3)
    few = of(tower, earlier=known())
    assert Counter(few.categories) == {"tower": 1, "car": 2}
    assert few.files[:2] == more.files[:2]  # the photos' own come first
    monkeypatch.setattr(making, "MOST_KNOWN", 4)
    assert Counter(of(toys()).categories) == {"brick": 2, "car": 2}
    others = of(photos(("brick", layout(6), RED, (), [1.0, 0.0])))
    assert set(of(toys(), earlier=others).categories) == {"brick", "car"}


def test_colours_of_the_labels_that_photos_show() -> None:
    layouts = torch.tensor([layout(5), layout(8), layout(5, 8)], dtype=torch.uint8)
    labels = ColourLabels.of([RED.lower(), GREEN, "#FFFFFF"], layouts)
    assert labels.exact == {RED: 5, GREEN: 8}  # the last is of two
    assert labels("#00451A") == 8
    joined = ColourLabels(exact={GREEN: 3, DARK_RED: 4}).joined(labels)
    assert joined.exact == {RED: 5, GREEN: 8, DARK_RED: 4}  # what the earlier networks learnt
    assert ColourLabels(exact={GLASS_RED: 12})("#00451A") is None


def test_a_product_keeps_its_labels_where_none_is_known_to_be_its_colours() -> None:
    """All photos are of several colours, so nothing says which label is whose."""
    cars = of(photos(("car", layout(5, 8, 8, 1), RED, (), AT)))
    assert cars.colour_labels.exact == {}
    assert cars.choose(brick(GREEN, category="car"), text(AT), 0).layout.tolist() == layout(5, 8, 8, 1)
