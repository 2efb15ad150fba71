"""One call from conditions to scored pixels, and what a model's files have to be."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import (
    BATCH,
    CATEGORIES,
    COLOURS,
    CPU,
    TinyFiles,
    change_weights,
    changed_config,
    config_json,
    products,
    tiny_model,
    weights_of,
)
from tests.toygan.artifact.small_models import model as model
from toygan.artifact.load import read_scope
from toygan.artifact.model import GeneratedBatch, Model
from toygan.conditions.colour import encode_colours
from toygan.conditions.product import ProductConditions
from toygan.conditions.text import TextEncoder
from toygan.conditions.text_bank import TextBank
from toygan.conditions.text_encoder_files import DEFAULT_TEXT_ENCODER
from toygan.errors import ModelError
from toygan.images import from_uint8
from toygan.models import build

Picture = tuple[int, str, str | None]  # seed, category, colour


pictures = st.tuples(
    st.integers(0, 2**63 - 1), st.sampled_from(CATEGORIES), st.sampled_from([*COLOURS, None])
)


def text_given(model: Model, language: str = "en", colour_hex: str | None = "#FF0000") -> str | None:
    return model.conditions_of(
        category="car",
        title="Cup, Red",
        description="To drink.",
        language=language,
        colour="Red",
        colour_hex=colour_hex,
        finish="chrome",
    ).text


def test_accent_colours_of_a_title_reach_the_picture() -> None:
    """Whatever the language: names are looked for as they are written."""
    model = tiny_model(accent_colour="teal").load()

    def product(title: str) -> ProductConditions:
        return model.conditions_of(
            category="car",
            title=title,
            description=None,
            language="zh",
            colour="Red",
            colour_hex="#FF0000",
            finish=None,
        )

    cars = [product("Car, teal roof"), product("Car, green roof")]
    assert [each.accent_hexes for each in cars] == [("#008080",), ()]
    assert [each.text for each in cars] == [None, None]
    generated = model.generate([1, 1], cars, BATCH)
    assert (generated.pixels[0] != generated.pixels[1]).any()


def test_a_model_is_given_the_text_that_it_was_trained_on(model: Model) -> None:
    titles = tiny_model(text_encoder=DEFAULT_TEXT_ENCODER)
    whole = titles.with_files(config=changed_config(titles, whole_titles=True))
    both = titles.with_files(config=changed_config(titles, reads_descriptions=True))
    assert text_given(model) is None
    assert text_given(titles.load()) == "Cup, chrome"
    assert text_given(titles.load(), colour_hex=None) == "Cup, Red, chrome"
    assert text_given(whole.load()) == "Cup, Red"
    assert text_given(both.load(), "en-GB") == "Cup, chrome To drink."
    assert text_given(both.load(), "zh") is None


def test_a_model_reads_new_texts_by_those_that_it_knows() -> None:
    """One known text makes all of them alike; without a text nothing is read."""
    plain = tiny_model(text_encoder=DEFAULT_TEXT_ENCODER)
    known = TextBank.of(TextEncoder(DEFAULT_TEXT_ENCODER, CPU).encode(["red car"]), 0.1)
    assert known is not None
    text_config = plain.with_files(
        config=changed_config(plain, text_smoothing=0.1), text_bank=known.to_file()
    )

    def pictures_of(files: TinyFiles) -> list[bytes]:
        products = [ProductConditions(category="car", text=text) for text in ("red car", "tree", None)]
        return [each.tobytes() for each in files.load().generate([1, 1, 1], products, BATCH).pixels]

    assert len(set(pictures_of(plain))) == 3
    car, tree, nothing = pictures_of(text_config)
    assert car == tree != nothing
    assert nothing == pictures_of(plain)[2]
    assert text_config.version != plain.version


@pytest.mark.parametrize("read", [TinyFiles.load, read_scope])
@pytest.mark.parametrize(
    ("content", "temperature", "said"),
    [
        (None, 0.1, "text_bank.safetensors of the model tiny is missing, but config.json asks"),
        (b"no", 0.1, "text_bank.safetensors of the model tiny.*cannot be read"),
        (b"", "hot", "text_smoothing.*'hot'"),
    ],
)
def test_text_bank_that_cannot_be_read_are_refused(
    read: Callable[[TinyFiles], object], content: bytes | None, temperature: object, said: str
) -> None:
    model = tiny_model(text_encoder=DEFAULT_TEXT_ENCODER)
    damaged = model.with_files(config=changed_config(model, text_smoothing=temperature), text_bank=content)
    with pytest.raises(ModelError, match=said):
        read(damaged)


def draw(model: Model, wanted: list[Picture], batch_size: int = BATCH) -> GeneratedBatch:
    seeds, categories, colours = zip(*wanted, strict=True)
    products = [
        ProductConditions(category=category, colour_hex=colour)
        for category, colour in zip(categories, colours, strict=True)
    ]
    return model.generate(seeds, products, batch_size)


@settings(max_examples=25, deadline=None)
@given(picture=pictures, mates=st.lists(pictures, max_size=BATCH - 1), data=st.data())
def test_a_picture_has_the_same_bytes_whatever_its_batch_mates(
    picture: Picture, mates: list[Picture], data: st.DataObject
) -> None:
    model = tiny_model().load()
    position = data.draw(st.integers(0, len(mates)))
    alone = draw(model, [picture])
    among = draw(model, [*mates[:position], picture, *mates[position:]])
    assert np.array_equal(alone.pixels[0], among.pixels[position])
    assert alone.logits[0] == among.logits[position]
    assert alone.finite[0] == among.finite[position]


def test_networks_of_the_size_that_is_trained_keep_to_it_too() -> None:
    """64 pixels take other kernels than 32."""
    torch.manual_seed(5)
    network = {"categories": 3, "resolution": 64}
    config = config_json("dcgan", network)
    generator, discriminator = build("dcgan", network)
    files = {"generator": weights_of(generator), "discriminator": weights_of(discriminator)}
    large = TinyFiles(name="large", files={}).with_files(config=config, **files).load()
    wanted: list[Picture] = [(seed, CATEGORIES[seed % 3], COLOURS[seed % 6]) for seed in range(32)]
    together = draw(large, wanted, 32)
    for row in (0, 13, 31):
        alone = draw(large, [wanted[row]], 32)
        assert np.array_equal(alone.pixels[0], together.pixels[row])
        assert alone.logits[0] == together.logits[row]


def test_seed_category_and_colour_all_show(model: Model) -> None:
    first: Picture = (2, "brick", COLOURS[0])
    others: list[Picture] = [(3, "brick", COLOURS[0]), (2, "car", COLOURS[0]), (2, "brick", COLOURS[1])]
    generated = draw(model, [first, *others, (2, "brick", None)])
    for row in range(1, 5):
        assert np.abs(generated.pixels[0].astype(int) - generated.pixels[row]).mean() > 1
        assert generated.logits[0] != generated.logits[row]


def test_padding_is_never_handed_out(model: Model) -> None:
    generated = draw(model, [(seed, "car", None) for seed in range(3)])
    assert generated.pixels.shape == (3, 32, 32, 3)
    assert generated.pixels.dtype == np.uint8
    assert generated.logits.shape == generated.finite.shape == (3,)
    assert generated.logits.dtype == np.float32
    assert generated.finite.all()


@pytest.mark.parametrize("count", [0, BATCH + 1])
def test_a_batch_holds_one_to_batch_size_pictures(model: Model, count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} pictures are wanted; a batch holds 1 to {BATCH}"):
        model.generate([1] * count, products("car", [None] * count), BATCH)


def test_another_batch_size_differs_by_one_step_at_most(model: Model) -> None:
    wanted: list[Picture] = [(seed, CATEGORIES[seed % 3], COLOURS[seed % 6]) for seed in range(8)]
    for batch_size in (9, 16, 31):
        other = draw(model, wanted, batch_size)
        same = draw(model, wanted)
        assert np.abs(other.pixels.astype(int) - same.pixels).max() <= 1
        assert other.logits == pytest.approx(same.logits, abs=1e-3)


def test_the_scored_picture_has_eight_bits(model: Model) -> None:
    generated = draw(model, [(seed, "wheel", COLOURS[2]) for seed in range(BATCH)])
    shown = from_uint8(torch.from_numpy(generated.pixels).permute(0, 3, 1, 2))
    conditions = {
        "category": torch.full((BATCH,), CATEGORIES.index("wheel")),
        "colour": encode_colours([COLOURS[2]] * BATCH),
    }
    with torch.inference_mode():
        assert torch.equal(model.discriminator(shown, conditions), torch.from_numpy(generated.logits))


def test_truncation_scales_the_latents() -> None:
    typical = tiny_model(truncation=0.0).load()
    generated = draw(typical, [(1, "car", COLOURS[0]), (2, "car", COLOURS[0]), (2, "car", COLOURS[1])])
    assert np.array_equal(generated.pixels[0], generated.pixels[1])
    assert not np.array_equal(generated.pixels[1], generated.pixels[2])
    half, whole = tiny_model(truncation=0.5).load(), tiny_model().load()
    assert not np.array_equal(draw(half, [(1, "car", None)]).pixels, draw(whole, [(1, "car", None)]).pixels)


@pytest.mark.parametrize("network", ["generator", "discriminator"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_are_reported(network: str, value: float) -> None:
    name = {"generator": "to_rgb.bias", "discriminator": "logit.bias"}[network]
    broken = change_weights(tiny_model(), network, lambda tensors: tensors[name].fill_(value)).load()
    generated = draw(broken, [(seed, "car", None) for seed in range(3)])
    assert not generated.finite.any()
    assert generated.pixels.shape == (3, 32, 32, 3)


def test_one_picture_that_is_not_finite_spoils_no_other() -> None:
    """One category's embedding is NaN."""

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors["embedding.category.weight"][CATEGORIES.index("car")] = torch.nan

    broken = change_weights(tiny_model(), "generator", spoil).load()
    wanted: list[Picture] = [(1, "brick", None), (1, "car", None), (1, "wheel", None)]
    generated = draw(broken, wanted)
    assert generated.finite.tolist() == [True, False, True]
    whole = draw(tiny_model().load(), wanted)
    assert np.array_equal(generated.pixels[[0, 2]], whole.pixels[[0, 2]])
