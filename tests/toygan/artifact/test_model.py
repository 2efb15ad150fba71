"""One call from conditions to judged pixels, and what a model's files have to be."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from tests.models import (
    BATCH,
    CATEGORIES,
    COLOURS,
    CPU,
    MakesAFolder,
    TinyFiles,
    change_weights,
    changed_config,
    config_json,
    products,
    tiny_model,
    weights_of,
)
from toygan.artifact import load as load_module
from toygan.artifact.calibration import Calibration
from toygan.artifact.config import ModelConfig
from toygan.artifact.load import load_model, read_scope
from toygan.artifact.model import GeneratedBatch, Model
from toygan.artifact.probe_weights import BACKBONE, ProbeWeights
from toygan.conditions.colour import encode_colours
from toygan.conditions.product import ProductConditions
from toygan.conditions.text import TextEncoder
from toygan.conditions.text_bank import TextBank
from toygan.conditions.text_encoder_files import DEFAULT_TEXT_ENCODER
from toygan.errors import ModelError
from toygan.images import from_uint8
from toygan.models import build
from toygan.registry.models import resolve

Picture = tuple[int, str, str | None]  # seed, category, colour
pictures = st.tuples(
    st.integers(0, 2**63 - 1), st.sampled_from(CATEGORIES), st.sampled_from([*COLOURS, None])
)


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model().load()


def told(model: Model, language: str = "en", colour_hex: str | None = "#FF0000") -> str | None:
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

    told = [product("Car, teal roof"), product("Car, green roof")]
    assert [each.accent_hexes for each in told] == [("#008080",), ()]
    assert [each.text for each in told] == [None, None]
    drawn = model.generate([1, 1], told, BATCH)
    assert (drawn.pixels[0] != drawn.pixels[1]).any()


def test_a_model_is_told_what_it_learnt_to_read(model: Model) -> None:
    titles = tiny_model(text_encoder=DEFAULT_TEXT_ENCODER)
    whole = titles.with_files(config=changed_config(titles, whole_titles=True))
    both = titles.with_files(config=changed_config(titles, reads_descriptions=True))
    assert told(model) is None
    assert told(titles.load()) == "Cup, chrome"
    assert told(titles.load(), colour_hex=None) == "Cup, Red, chrome"
    assert told(whole.load()) == "Cup, Red"
    assert told(both.load(), "en-GB") == "Cup, chrome To drink."
    assert told(both.load(), "zh") is None


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
    drawn = draw(model, [first, *others, (2, "brick", None)])
    for row in range(1, 5):
        assert np.abs(drawn.pixels[0].astype(int) - drawn.pixels[row]).mean() > 1
        assert drawn.logits[0] != drawn.logits[row]


def test_padding_is_never_handed_out(model: Model) -> None:
    drawn = draw(model, [(seed, "car", None) for seed in range(3)])
    assert drawn.pixels.shape == (3, 32, 32, 3)
    assert drawn.pixels.dtype == np.uint8
    assert drawn.logits.shape == drawn.finite.shape == (3,)
    assert drawn.logits.dtype == np.float32
    assert drawn.finite.all()


@pytest.mark.parametrize("count", [0, BATCH + 1])
def test_a_batch_holds_one_to_batch_size_pictures(model: Model, count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} pictures asked for; a batch holds 1 to {BATCH}"):
        model.generate([1] * count, products("car", [None] * count), BATCH)


def test_another_batch_size_differs_by_one_step_at_most(model: Model) -> None:
    wanted: list[Picture] = [(seed, CATEGORIES[seed % 3], COLOURS[seed % 6]) for seed in range(8)]
    for batch_size in (9, 16, 31):
        other = draw(model, wanted, batch_size)
        same = draw(model, wanted)
        assert np.abs(other.pixels.astype(int) - same.pixels).max() <= 1
        assert other.logits == pytest.approx(same.logits, abs=1e-3)


def test_what_is_judged_is_the_picture_in_eight_bits(model: Model) -> None:
    drawn = draw(model, [(seed, "wheel", COLOURS[2]) for seed in range(BATCH)])
    shown = from_uint8(torch.from_numpy(drawn.pixels).permute(0, 3, 1, 2))
    conditions = {
        "category": torch.full((BATCH,), CATEGORIES.index("wheel")),
        "colour": encode_colours([COLOURS[2]] * BATCH),
    }
    with torch.inference_mode():
        assert torch.equal(model.discriminator(shown, conditions), torch.from_numpy(drawn.logits))


def test_truncation_scales_the_latents() -> None:
    typical = tiny_model(truncation=0.0).load()
    drawn = draw(typical, [(1, "car", COLOURS[0]), (2, "car", COLOURS[0]), (2, "car", COLOURS[1])])
    assert np.array_equal(drawn.pixels[0], drawn.pixels[1])
    assert not np.array_equal(drawn.pixels[1], drawn.pixels[2])
    half, whole = tiny_model(truncation=0.5).load(), tiny_model().load()
    assert not np.array_equal(draw(half, [(1, "car", None)]).pixels, draw(whole, [(1, "car", None)]).pixels)


@pytest.mark.parametrize("network", ["generator", "discriminator"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_numbers_that_are_none_are_told(network: str, value: float) -> None:
    name = {"generator": "to_rgb.bias", "discriminator": "logit.bias"}[network]
    broken = change_weights(tiny_model(), network, lambda tensors: tensors[name].fill_(value)).load()
    drawn = draw(broken, [(seed, "car", None) for seed in range(3)])
    assert not drawn.finite.any()
    assert drawn.pixels.shape == (3, 32, 32, 3)


def test_one_picture_that_is_not_finite_spoils_no_other() -> None:
    """One category's embedding is NaN."""

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors["embedding.category.weight"][CATEGORIES.index("car")] = torch.nan

    broken = change_weights(tiny_model(), "generator", spoil).load()
    wanted: list[Picture] = [(1, "brick", None), (1, "car", None), (1, "wheel", None)]
    drawn = draw(broken, wanted)
    assert drawn.finite.tolist() == [True, False, True]
    whole = draw(tiny_model().load(), wanted)
    assert np.array_equal(drawn.pixels[[0, 2]], whole.pixels[[0, 2]])


# loading


def test_a_loaded_model_computes_what_its_networks_do(model: Model) -> None:
    """Spectral normalisation is folded into the weights."""
    files = tiny_model().files
    config = json.loads(files["config.json"])
    _, discriminator = build(config["family"], config["network"])
    discriminator.load_state_dict(load(files["discriminator.safetensors"]))
    discriminator.eval()
    images = torch.rand((4, 3, 32, 32), generator=torch.Generator().manual_seed(1)) * 2 - 1
    conditions = {"category": torch.tensor([0, 1, 2, 0]), "colour": encode_colours(list(COLOURS[:4]))}
    with torch.inference_mode():
        wanted = discriminator(images, conditions)
        assert torch.allclose(model.discriminator(images, conditions), wanted, atol=1e-5)
    assert not any("parametrizations" in name for name, _ in model.discriminator.named_parameters())
    assert not any(weight.requires_grad for weight in model.discriminator.parameters())
    assert not model.generator.training
    assert not model.discriminator.training


def test_loading_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    files = tiny_model()
    files.load()
    probe = ProbeWeights(backbone=BACKBONE, weights=(0.0,) * 320, intercept=0.0)
    probed = replace(Calibration.from_json(files.files["calibration.json"]), probe=probe)
    files.with_files(calibration=probed.to_json().encode()).load()
    assert torch.equal(before, torch.random.get_rng_state())


def config_with(**changes: Any) -> bytes:
    return changed_config(tiny_model(), **changes)


NETWORK = json.loads(tiny_model().files["config.json"])["network"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (b"", "is not JSON"),
        (b"\x80\x04", "is not JSON"),
        (b"[]", "is a JSON list, not an object"),
        (config_with(family="vae"), "unknown model family 'vae'"),
        (config_with(family=["dcgan"]), "does not describe a model"),
        (config_with(network=...), "network: Field required"),
        (config_with(network=[1]), "does not describe a model"),
        (config_with(network={**NETWORK, "layers": 3}), "no option layers"),
        (config_with(network={**NETWORK, "latent_size": "16"}), "latent_size"),
        (config_with(network={**NETWORK, "categories": 4}), "names 3 categories, but its networks know 4"),
        (config_with(categories=["brick"]), "names 1 categories, but its networks know 3"),
        (config_with(categories="abc"), "categories: Input should be a valid array"),
        (config_with(categories=[1, 2, 3]), "categories.0: Input should be a valid string"),
        (config_with(resolution=64), "its resolution is 64, but its networks have 32"),
        (config_with(truncation="much"), "truncation: Input should be a valid number"),
    ],
)
def test_a_config_that_describes_no_model_is_refused(config: bytes, said: str) -> None:
    with pytest.raises(ModelError, match=f"(?s)config.json of the model tiny.*{said}"):
        tiny_model().with_files(config=config).load()


def truncated(data: bytes) -> bytes:
    return data[:-100]


def without_a_tensor(data: bytes) -> bytes:
    tensors = load(data)
    tensors.pop(sorted(tensors)[0])
    return save(tensors)


def of_other_shapes(data: bytes) -> bytes:
    return save({name: torch.zeros((*tensor.shape, 2)) for name, tensor in load(data).items()})


@pytest.mark.parametrize("network", ["generator", "discriminator"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncated, "cannot be read"),
        (lambda data: b"", "cannot be read"),
        (lambda data: None, "cannot be read"),
        (without_a_tensor, "the weights do not fit the model: .*found nothing"),
        (of_other_shapes, r"the weights do not fit the model: .*found \(.*2\), wanted \(.*and \d+ more"),
        (lambda data: save({"more": torch.zeros(1)} | load(data)), "more: found .1,., wanted nothing"),
    ],
    ids=["truncated", "empty", "missing", "a tensor is missing", "other shapes", "a tensor too many"],
)
def test_weights_that_do_not_fit_are_refused(
    network: str, damage: Callable[[bytes], bytes | None], said: str
) -> None:
    model = tiny_model()
    damaged = model.with_files(**{network: damage(model.files[f"{network}.safetensors"])})
    with pytest.raises(ModelError, match=f"(?s){network}.safetensors of the model tiny.*{said}"):
        damaged.load()


@pytest.mark.parametrize("file", ["generator", "discriminator", "config", "calibration"])
@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_pickle_is_refused_without_being_loaded(tmp_path: Path, file: str, how: str) -> None:
    bait = tmp_path / "somebody-was-here"
    path = tmp_path / "weights"
    if how == "pickle":
        path.write_bytes(pickle.dumps(MakesAFolder(bait)))
        pickle.loads(path.read_bytes())
    else:
        torch.save(MakesAFolder(bait), path)
        torch.load(path, weights_only=False)
    assert bait.is_dir()  # the trap works
    bait.rmdir()
    hostile = tiny_model().with_files(**{file: path.read_bytes()})
    with pytest.raises(ModelError):
        load_model(hostile, CPU)
    with pytest.raises(ModelError):
        resolve(str(hostile.write(tmp_path / "hostile")), None)
    assert not bait.exists()


def test_a_calibration_has_to_know_every_category() -> None:
    model = tiny_model()
    known = json.loads(model.files["calibration.json"])
    del known["categories"]["car"], known["categories"]["wheel"]
    with pytest.raises(ModelError, match="not calibrated for car, wheel; run `toygan calibrate`"):
        model.with_files(calibration=json.dumps(known).encode()).load().require_calibration()
    with pytest.raises(ModelError, match="the model tiny is not calibrated; run `toygan calibrate`"):
        model.with_files(calibration=None).load().require_calibration()
    assert set(model.load().require_calibration().categories) == set(CATEGORIES)


@pytest.mark.parametrize("cache", ["cache", "file/cache"])
def test_a_good_version_is_checked_once_a_machine(
    cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the cache cannot be written, it is checked each time."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
    good = tiny_model()
    bad = good.with_files(generator=tiny_model(categories=("car",)).files["generator.safetensors"])
    checked = []
    check = load_module._check

    def count(source: TinyFiles, config: ModelConfig) -> None:
        checked.append(source.version)
        check(source, config)

    monkeypatch.setattr(load_module, "_check", count)
    assert read_scope(good) == read_scope(good)
    for _ in range(2):
        with pytest.raises(ModelError):
            read_scope(bad)
    times = 1 if cache == "cache" else 2
    assert checked == [good.version] * times + [bad.version] * 2
