"""Which layout of the bank a product without a layout gets, and how it gets the product's colours."""

import contextlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import e
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from toygan.artifact.layout_bank import ColourLabels, LayoutBank
from toygan.conditions import labelled_colours
from toygan.conditions.category import encode_categories
from toygan.conditions.colour import encode_colours
from toygan.conditions.drawing_files import DrawingFiles
from toygan.conditions.product import ProductConditions
from toygan.conditions.text_config import TextConfig, TextFields
from toygan.data.photos import PhotoSet
from toygan.errors import ModelError
from toygan.images import encode_labels
from toygan.training import layout_bank as making
from toygan.training.layout_bank import make_layout_bank

RED, DARK_RED, GREEN, GLASS_RED = "#B40000", "#720012", "#00852B", "#C91A09"
SIDE = 8
AT, ACROSS, AWAY = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-0.5, -0.5, 0.0]  # texts whose mean is next to nothing


texts = st.none() | st.text()


def layout(*labels: int) -> list[list[int]]:
    """Ground above, and below it a strip for each label."""
    rows = [[0] * SIDE] * (SIDE - len(labels))
    return rows + [[label] * SIDE for label in labels]


def photos(*rows: tuple[str, list[list[int]], str | None, tuple[str, ...], list[float]]) -> PhotoSet:
    """Each of a category, a layout, a main colour, accents and what its text is embedded to."""
    categories, layouts, mains, accents, texts = zip(*rows, strict=True)
    names = tuple(sorted(set(categories)))
    lines = torch.full((len(rows), SIDE, SIDE), 255, dtype=torch.uint8)
    lines[:, 0] = torch.arange(len(rows), dtype=torch.uint8)[:, None] * 36
    return PhotoSet(
        images=torch.zeros((len(rows), 3, SIDE, SIDE), dtype=torch.uint8),
        category=encode_categories(list(categories), names),
        colour=encode_colours(list(mains)),
        colour_hexes=mains,
        words=tuple(
            TextFields(text=json.dumps(text), shape_text=json.dumps(text), accent_hexes=each)
            for each, text in zip(accents, texts, strict=True)
        ),
        skus=tuple(map(str, range(len(rows)))),
        categories=names,
        image_condition="layout",
        condition_images=torch.tensor(layouts, dtype=torch.uint8),
        lines=lines,
        files=tuple(
            DrawingFiles.of(np.array(each, dtype=np.uint8), drawn.numpy())
            for each, drawn in zip(layouts, lines, strict=True)
        ),
        text_config=TextConfig(accent_colours=2),
    )


def embed(texts: Sequence[str | None]) -> Tensor:
    return torch.tensor([json.loads(each or "") for each in texts])


def toys() -> PhotoSet:
    return photos(
        ("brick", layout(5), RED, (), AT),
        ("brick", layout(8), GREEN, (), ACROSS),
        ("brick", layout(12), GLASS_RED, (), AWAY),
        ("car", layout(5, 8, 1), RED, (GREEN,), AT),
        ("car", layout(8, 5), GREEN, (RED,), ACROSS),
        ("car", layout(8), GREEN, (), AWAY),
    )


def of(found: PhotoSet, **changes: Any) -> LayoutBank:
    return make_layout_bank(found, **{"embed": embed, "classes": 14, "temperature": 0.1} | changes)


@pytest.fixture(autouse=True)
def finishes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on real photos, where many colours of a finish are as far from each other as all colours are."""
    monkeypatch.setattr(labelled_colours, "name_colours", lambda colours, labels: labels != 12)


def known() -> LayoutBank:
    return of(toys())


def read(content: bytes, **changes: Any) -> LayoutBank:
    values: dict[str, Any] = {"text_size": 3, "classes": 14}
    return LayoutBank.from_file(content, 0.1, **values | changes)


def brick(colour_hex: str | None = RED, *accents: str, category: str = "brick") -> ProductConditions:
    return ProductConditions(category=category, colour_hex=colour_hex, accent_hexes=accents)


def text(values: list[float]) -> Tensor:
    return torch.tensor(values)


def strips(
    product: ProductConditions, told: list[float], *, seed: int = 0, truncation: float = 0.0
) -> list[int]:
    """The labels of the nearest layout, from above."""
    return [row[0] for row in known().choose(product, text(told), 0, 0.0).layout.tolist() if row[0]]


def test_the_nearest_text_gives_the_layout_the_product_its_colour() -> None:
    for told, number in ((AT, 0), (ACROSS, 1)):
        chosen = known().choose(brick(GREEN), text(told), 0, 0.0)
        assert chosen.layout.tolist() == layout(8)
        assert chosen.similarity == pytest.approx(1, abs=0.05)  # of which the mean of all texts is taken off
        # The lines that belong to it come along, in levels of ink.
        np.testing.assert_allclose(chosen.lines[0], number * 36, atol=19)
        assert (chosen.lines[1:] == 255).all()


def test_a_category_is_generated_from_its_own_layouts() -> None:
    assert strips(brick(RED, GREEN, category="car"), AT) == [5, 8, 1]
    with pytest.raises(ModelError, match="no layout of 'tower'"):
        strips(brick(category="tower"), AT)


def test_colours_change_places_all_at_once() -> None:
    """Those that nobody told, the car's tyres, stay."""
    assert strips(brick(GREEN, RED, category="car"), AT) == [8, 5, 1]
    assert strips(brick(None, RED, category="car"), AT) == [5, 5, 1]
    assert strips(brick(DARK_RED, category="car"), AWAY) == [5]


def test_a_finish_is_of_the_photos_colours_only() -> None:
    """A red that is next to that of red glass is no glass."""
    assert strips(brick(GLASS_RED), AT) == [12]
    assert strips(brick("#CA1A09"), AT) == [5]
    assert strips(brick(RED), AWAY) == [5]  # glass becomes a red brick


def test_layouts_of_as_many_colours_as_the_product_has_come_first() -> None:
    """Where texts are about as near."""
    one, two = layout(8), layout(5, 8)
    rows = [("car", two, RED, (GREEN,), [1.0, 0.0, 0.0]), ("car", one, GREEN, (), [0.95, 0.3, 0.0])]
    rows += [("brick", layout(5), RED, (), [-1.0, 0.0, 0.0]), ("brick", one, GREEN, (), [-0.95, -0.3, 0.0])]
    cars = of(photos(*rows))
    told = text([1.0, 0.0, 0.0])
    assert cars.choose(brick(GREEN, category="car"), told, 0, 0.0).layout.tolist() == one
    assert cars.choose(brick(RED, GREEN, category="car"), told, 0, 0.0).layout.tolist() == two


def test_a_layout_whose_colour_is_also_that_of_something_else_comes_later() -> None:
    """Skin has the label 7 on all, a quarter of a figure; so who wore yellow would give its face away."""
    yellow = "#FAC80A"
    rows = [("brick", layout(7), yellow, (), AWAY)]  # says which label is yellow's
    rows += [("figure", layout(7, 7, 7, 7), yellow, (), [1.0, 0.0, 0.0])]
    rows += [("figure", layout(5, 5, 5, 7), RED, (), each) for each in ([0.95, 0.3, 0.0], [-1.0, 0.0, 0.0])]
    rows += [("brick", layout(5), RED, (), AWAY)]
    figures = of(photos(*rows))
    assert figures._groups["figure"].mixed.tolist() == [0.25, 0.0, 0.0]
    drawn = figures.choose(brick(RED, category="figure"), text([1.0, 0.0, 0.0]), 0, 0.0)
    assert set(drawn.layout.flatten().tolist()) == {0, 5, 7}


@pytest.mark.slow
def test_farther_ones_are_drawn_as_their_weights_say() -> None:
    """Two texts whose similarities differ by the temperature: e to 1; half of the truncation squares it."""
    near, far = [1.0, 0.0, 0.0], [0.9, (1 - 0.81) ** 0.5, 0.0]
    opposite = [[-1.0, 0.0, 0.0], [-0.9, -((1 - 0.81) ** 0.5), 0.0]]  # so that the mean is nothing
    rows = [("brick", layout(5), RED, (), near), ("brick", layout(5, 5), RED, (), far)]
    rows += [("car", layout(5), RED, (), each) for each in opposite]
    pair = of(photos(*rows))
    for truncation, odds in ((1.0, e), (0.5, e**2)):
        drawn = [pair.choose(brick(), text(near), seed, truncation).layout[-2, 0] for seed in range(4000)]
        share = Counter(drawn)[0] / len(drawn)
        assert abs(share - odds / (1 + odds)) < 0.03


def test_without_a_text_any_of_the_category_may_come() -> None:
    nothing = [0.0, 0.0, 0.0]
    found = {
        tuple(map(tuple, known().choose(brick(None), text(nothing), seed).layout.tolist()))
        for seed in range(40)
    }
    assert len(found) == 3
    assert {str(known().choose(brick(None), text(nothing), seed).similarity) for seed in range(40)} == {"0.0"}


def test_how_near_a_text_is_is_told_in_three_digits() -> None:
    """The mean of the two is nothing, so the cosines are the first numbers."""
    opposite = [("brick", layout(5), RED, (), each) for each in ([1.0, 0.0, 0.0], [-1.0, 0.0, 0.0])]
    pair = of(photos(*opposite))
    for told, similarity in (([1.0, 0.0, 0.0], 1.0), ([0.6001, (1 - 0.6001**2) ** 0.5, 0.0], 0.6)):
        assert pair.choose(brick(), text(told), 0, 0.0).similarity == similarity


def test_where_no_text_is_read_none_is_near() -> None:
    silent = of(toys(), embed=None)
    assert silent.choose(brick(), text([]), 0).similarity is None


@given(
    seed=st.integers(0, 2**63 - 1),
    told=st.sampled_from([AT, ACROSS, AWAY, [0.0, 0.0, 0.0]]),
    truncation=st.sampled_from([0.0, 0.3, 1.0]),
    colours=st.lists(st.sampled_from([RED, DARK_RED, GREEN, GLASS_RED, "#123456"]), min_size=1, max_size=3),
    category=st.sampled_from(["brick", "car"]),
)
@pytest.mark.slow
def test_what_is_drawn_depends_on_nothing_else_and_has_the_products_labels(
    seed: int, told: list[float], truncation: float, colours: list[str], category: str
) -> None:
    product = brick(*colours, category=category)
    first, again = (known().choose(product, text(told), seed, truncation) for _ in range(2))
    assert (first.layout == again.layout).all()
    assert (first.lines == again.lines).all()
    labels = {known().colour_labels(each) for each in colours}
    assert known().colour_labels(colours[0]) in set(first.layout.flatten().tolist())
    assert set(first.layout.flatten().tolist()) <= labels | {0, 1, 5, 8}


def in_finishes(*finishes: tuple[list[float], list[float]]) -> PhotoSet:
    """Each of a text with its finish and of one without; and one that has no finish."""
    found = photos(*[("brick", layout(5), RED, (), shape) for _, shape in finishes])
    words = [TextFields(text=json.dumps(text), shape_text=json.dumps(shape)) for text, shape in finishes]
    return replace(found, words=tuple(words))


CHROME_WHEEL = ([0.0, 0.8, 0.6], AT)
FINISHES = (CHROME_WHEEL, (ACROSS, ACROSS), (AWAY, AWAY))


def test_a_product_is_compared_by_the_text_without_its_finish() -> None:
    wheel = ProductConditions(category="brick", text="Wheel, chrome", shape_text="Wheel")
    found = of(in_finishes(*FINISHES))
    assert found.text_of(wheel) == "Wheel"
    assert torch.equal(found.texts, torch.tensor([AT, ACROSS, AWAY]))
    assert found.choose(wheel, text(AT), 0, 0.0).similarity == 1


def with_metadata(content: bytes, **said: Any) -> bytes:
    """None: not said."""
    table = pq.read_table(io.BytesIO(content))
    every = json.loads(table.schema.metadata[b"toygan"]) | said
    kept = {name: value for name, value in every.items() if value is not None}
    file = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({b"toygan": json.dumps(kept)}), file)
    return file.getvalue()


@given(texts, texts)
def test_a_file_from_before_is_asked_by_the_whole_text(whole: str | None, shape: str | None) -> None:
    """Its own texts say the finish."""
    product = ProductConditions(category="brick", text=whole, shape_text=shape)
    before = read(with_metadata(known().to_file(), say_finish=None))
    assert before.text_of(product) == read(before.to_file()).text_of(product) == whole
    assert known().text_of(product) == shape
    assert torch.equal(before.texts, known().texts)


@pytest.mark.parametrize("say_finish", [False, True])
def test_those_that_are_joined_are_all_of_one_kind(say_finish: bool) -> None:
    """That of the earlier ones, whose texts are all that is left of them."""
    earlier = replace(known(), say_finish=say_finish)
    both = of(in_finishes(CHROME_WHEEL), earlier=earlier)
    assert both.say_finish == say_finish
    own, *others = both.texts
    torch.testing.assert_close(
        own, text(CHROME_WHEEL[0] if say_finish else CHROME_WHEEL[1]), atol=1e-3, rtol=0
    )
    # The red brick that both have is there once, unless they say different things of it.
    assert torch.equal(torch.stack(others), known().texts[:3] if say_finish else known().texts[1:3])


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
