"""Which layout of the bank a product without a layout gets, and how it gets the product's colours."""

import io
import json
from collections import Counter
from dataclasses import replace
from math import e
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.toygan.artifact.layout_banks import (
    ACROSS,
    AT,
    AWAY,
    DARK_RED,
    GLASS_RED,
    GREEN,
    RED,
    brick,
    known,
    layout,
    of,
    photos,
    read,
    text,
    texts,
    toys,
)
from tests.toygan.artifact.layout_banks import finishes as finishes
from toygan.conditions.product import ProductConditions
from toygan.conditions.text_config import TextFields
from toygan.data.photos import PhotoSet
from toygan.errors import ModelError


def strips(
    product: ProductConditions, direction: list[float], *, seed: int = 0, truncation: float = 0.0
) -> list[int]:
    """The labels of the nearest layout, from above."""
    return [row[0] for row in known().choose(product, text(direction), 0, 0.0).layout.tolist() if row[0]]


def test_the_nearest_text_gives_the_layout_the_product_its_colour() -> None:
    for direction, number in ((AT, 0), (ACROSS, 1)):
        chosen = known().choose(brick(GREEN), text(direction), 0, 0.0)
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
    """Colours that no product gives, the car's tyres, stay."""
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
    direction = text([1.0, 0.0, 0.0])
    assert cars.choose(brick(GREEN, category="car"), direction, 0, 0.0).layout.tolist() == one
    assert cars.choose(brick(RED, GREEN, category="car"), direction, 0, 0.0).layout.tolist() == two


def test_a_layout_whose_colour_is_also_that_of_something_else_comes_later() -> None:
    """Skin has the label 7 on all, a quarter of a figure; so who wore yellow would give its face away."""
    yellow = "#FAC80A"
    rows = [("brick", layout(7), yellow, (), AWAY)]  # says which label is yellow's
    rows += [("figure", layout(7, 7, 7, 7), yellow, (), [1.0, 0.0, 0.0])]
    rows += [("figure", layout(5, 5, 5, 7), RED, (), each) for each in ([0.95, 0.3, 0.0], [-1.0, 0.0, 0.0])]
    rows += [("brick", layout(5), RED, (), AWAY)]
    figures = of(photos(*rows))
    assert figures._groups["figure"].mixed.tolist() == [0.25, 0.0, 0.0]
    generated = figures.choose(brick(RED, category="figure"), text([1.0, 0.0, 0.0]), 0, 0.0)
    assert set(generated.layout.flatten().tolist()) == {0, 5, 7}


@pytest.mark.slow
def test_farther_layouts_are_chosen_by_their_weights() -> None:
    """Two texts whose similarities differ by the temperature: e to 1; half of the truncation squares it."""
    near, far = [1.0, 0.0, 0.0], [0.9, (1 - 0.81) ** 0.5, 0.0]
    opposite = [[-1.0, 0.0, 0.0], [-0.9, -((1 - 0.81) ** 0.5), 0.0]]  # so that the mean is nothing
    rows = [("brick", layout(5), RED, (), near), ("brick", layout(5, 5), RED, (), far)]
    rows += [("car", layout(5), RED, (), each) for each in opposite]
    pair = of(photos(*rows))
    for truncation, odds in ((1.0, e), (0.5, e**2)):
        generated = [pair.choose(brick(), text(near), seed, truncation).layout[-2, 0] for seed in range(4000)]
        share = Counter(generated)[0] / len(generated)
        assert abs(share - odds / (1 + odds)) < 0.03


def test_without_a_text_any_of_the_category_may_come() -> None:
    nothing = [0.0, 0.0, 0.0]
    found = {
        tuple(map(tuple, known().choose(brick(None), text(nothing), seed).layout.tolist()))
        for seed in range(40)
    }
    assert len(found) == 3
    assert {str(known().choose(brick(None), text(nothing), seed).similarity) for seed in range(40)} == {"0.0"}


def test_a_text_similarity_has_three_digits() -> None:
    """The mean of the two is nothing, so the cosines are the first numbers."""
    opposite = [("brick", layout(5), RED, (), each) for each in ([1.0, 0.0, 0.0], [-1.0, 0.0, 0.0])]
    pair = of(photos(*opposite))
    for direction, similarity in (([1.0, 0.0, 0.0], 1.0), ([0.6001, (1 - 0.6001**2) ** 0.5, 0.0], 0.6)):
        assert pair.choose(brick(), text(direction), 0, 0.0).similarity == similarity


def test_where_no_text_is_read_none_is_near() -> None:
    silent = of(toys(), embed=None)
    assert silent.choose(brick(), text([]), 0).similarity is None


@given(
    seed=st.integers(0, 2**63 - 1),
    direction=st.sampled_from([AT, ACROSS, AWAY, [0.0, 0.0, 0.0]]),
    truncation=st.sampled_from([0.0, 0.3, 1.0]),
    colours=st.lists(st.sampled_from([RED, DARK_RED, GREEN, GLASS_RED, "#123456"]), min_size=1, max_size=3),
    category=st.sampled_from(["brick", "car"]),
)
@pytest.mark.slow
def test_a_choice_depends_on_its_arguments_only(
    seed: int, direction: list[float], truncation: float, colours: list[str], category: str
) -> None:
    product = brick(*colours, category=category)
    first, again = (known().choose(product, text(direction), seed, truncation) for _ in range(2))
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
