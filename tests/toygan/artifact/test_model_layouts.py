"""A model that has layouts of its own, for products that come without one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models import BATCH, CATEGORIES, TinyFiles, changed_config, products, tiny_model, tiny_with_layouts
from toygan.artifact.load import read_scope
from toygan.artifact.model import Model
from toygan.conditions.image import Drawing
from toygan.errors import ModelError


def test_a_model_with_layouts_of_its_own_draws_what_comes_without_one() -> None:
    """In the product's colour, and from no other layout: one that comes along is none of its own."""
    model = tiny_with_layouts().load()
    assert (model.image_condition, model.learns_from) == (None, "layout")
    plain = products("car", ["#B40000", "#1E5AA8"])
    other = np.full((32, 32), 3, dtype=np.uint8)
    generated, again = (
        model.generate([5, 5], group, BATCH).pixels
        for group in (plain, [replace(each, image=other) for each in plain])
    )
    assert (generated == again).all()
    known = model.layout_bank
    assert known is not None
    chosen = [known.choose(each, torch.zeros(0), 5).layout for each in plain]
    given = tiny_model("spade").load()
    wanted = given.generate(
        [5, 5], [replace(each, image=one) for each, one in zip(plain, chosen, strict=True)], BATCH
    )
    assert (generated == wanted.pixels).all()
    assert (chosen[0] > 0).tolist() == (chosen[1] > 0).tolist()
    assert {*chosen[0].flatten().tolist()} == {0, 1}
    assert {*chosen[1].flatten().tolist()} == {0, 2}


@pytest.mark.parametrize("say_finish", [False, True])
def test_a_product_in_another_finish_has_the_shape_of_its_part(say_finish: bool) -> None:
    """Its network hears of the finish all the same. Models from before take it for another product."""
    model = tiny_with_layouts(titles=("Horse", "Wolf"), say_finish=say_finish).load()
    known = model.layout_bank
    assert known is not None
    assert known.say_finish == say_finish
    solid, chrome = (
        model.conditions_of(
            category="car",
            title="Horse, Red",
            description=None,
            language="en",
            colour="Red",
            colour_hex="#B40000",
            finish=finish,
        )
        for finish in ("solid", "chrome")
    )
    assert (solid.text, chrome.text) == ("Horse", "Horse, chrome")
    generated = model.generate([5, 5], [solid, chrome], BATCH)
    assert generated.layout_similarities[0] == 1
    assert (generated.layout_similarities[1] == 1) != say_finish
    assert (generated.pixels[0] != generated.pixels[1]).any()


@pytest.mark.slow
def test_layout_bank_are_part_of_what_a_model_can_draw() -> None:
    model = tiny_with_layouts()
    assert read_scope(model).categories == frozenset(CATEGORIES)
    wrong = (
        ({"layout_bank": None}, "layout_bank.parquet of the model tiny-layouts is missing"),
        ({"layout_predictor": None}, "layout_predictor.safetensors of the model tiny-layouts is missing"),
        ({"layout_bank": b"?"}, "layout_bank.parquet of the model tiny-layouts: .*cannot be read"),
        (
            {"layout_predictor": b"?" * 9},
            "layout_predictor.safetensors of the model tiny-layouts: the layout predictor cannot be read",
        ),
    )
    for changes, said in wrong:
        damaged = model.with_files(**changes)
        for read in (read_scope, load_model_here):
            with pytest.raises(ModelError, match=said):
                read(damaged)


def test_layouts_are_known_to_a_family_that_draws_from_them() -> None:
    with_layouts = tiny_with_layouts().files["layout_bank.parquet"]
    for family in ("dcgan", "pix2pix"):
        config = changed_config(tiny_model(family), layout_bank=0.1)
        wrong = tiny_model(family).with_files(config=config, layout_bank=with_layouts)
        for read in (read_scope, load_model_here):
            with pytest.raises(ModelError, match=f"the family {family} cannot use a layout bank"):
                read(wrong)


def load_model_here(source: TinyFiles) -> Model:
    return source.load()


def test_a_products_own_drawings_take_the_place_of_those_of_the_bank() -> None:
    """The picture follows both of them, and its shape is no guess."""
    model = tiny_with_layouts(lines=True, titles=("Horse", "Wolf")).load()
    plain = products("car", ["#B40000"])[0]
    layout = np.zeros((32, 32), dtype=np.uint8)
    layout[8:24, 8:24] = 1
    paper = np.full((32, 32), 255, dtype=np.uint8)
    line = paper.copy()
    line[16] = 0
    given = [
        replace(plain, drawing=Drawing(*each))
        for each in ((layout, paper), (layout, line), (paper * 0, paper))
    ]
    generated = model.generate([5, 5, 5], given, BATCH)
    first, *others = generated.pixels
    assert all((first != other).any() for other in others)
    assert generated.layout_similarities == [None] * 3
    assert model.best_similarities([given[0], plain], [[5], [5]])[0] is None


def test_drawings_are_taken_by_models_with_a_bank_that_take_lines() -> None:
    both = ("sketch", "layout")
    taken = {
        model.name: (model.load().config.images_taken(both), model.load().config.images_taken(("layout",)))
        for model in (tiny_model(), tiny_model("spade"), tiny_model("pix2pix"))
    }
    assert taken == {
        "tiny": ((), ()),
        "tiny-spade": (("layout",), ("layout",)),
        "tiny-pix2pix": (("sketch",), ("sketch",)),
    }
    bank = tiny_with_layouts(lines=True).load()
    assert bank.config.images_taken(both) == ("layout", "sketch")
    assert bank.config.images_taken(("layout",)) == ()
    assert read_scope(tiny_with_layouts(lines=True)).takes_drawings
    assert tiny_with_layouts().load().config.images_taken(both) == ()
