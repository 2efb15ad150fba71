"""The texts, colours and layouts that a trained model keeps."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from catalog_schemas.photos import PHOTO_SHARD
from tests.models import condition_file
from tests.shards import SHARD_SCHEMA, photo_row, training_skus, write_shard
from tests.toygan.training.tiny import changed, tiny
from tests.toygan.training.trainings import CPU, run
from toygan.artifact.files import LAYOUT_BANK, LAYOUT_PREDICTOR, TEXT_BANK
from toygan.artifact.load import load_model
from toygan.conditions.image import READERS
from toygan.conditions.product import ProductConditions
from toygan.data.split import is_calibration_sku
from toygan.errors import BadInput
from toygan.registry.models import resolve
from toygan.training import train as train_module
from toygan.training.limits import Limits
from toygan.training.train import train


class Reader:
    """Reads a text as how long it is, and keeps what it was given."""

    read: ClassVar[list[str | None]] = []

    def __init__(self, name: str, device: torch.device) -> None:
        self.name = name

    def encode(self, texts: Sequence[str | None]) -> Tensor:
        self.read.extend(texts)
        return torch.tensor([[float(len(text or ""))] * 3 for text in texts])

    embed = encode

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "identity": "0"}


def test_texts_are_embedded_only_where_they_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for a training that reads none, nor those of photos that are left out."""
    monkeypatch.setattr(train_module, "TextEncoder", Reader)
    monkeypatch.setattr(Reader, "read", [])
    calibrating = next(sku for sku in (f"sku-{number}" for number in range(100)) if is_calibration_sku(sku))
    kept, measured = training_skus(2)
    rows = [
        photo_row(kept, title="kept"),
        photo_row(calibrating, title="calibrates"),
        photo_row(measured, title="measured", split="val"),
    ]
    photos = write_shard(tmp_path, rows, schema=SHARD_SCHEMA.append(PHOTO_SHARD.field("title")))
    run(photos, tmp_path / "without", max_images=4)
    assert Reader.read == []
    model = run(photos, tmp_path / "with", config=tiny(text_encoder="reader"), max_images=4)
    assert Reader.read == ["kept"]
    config = json.loads((model / "config.json").read_text())
    assert config["network"]["text_size"] == 3
    assert config["text_encoder"] == {"name": "reader", "identity": "0"}


def test_a_training_leaves_the_texts_that_new_ones_are_read_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained on, those of the model that it started from are among them."""
    monkeypatch.setattr(train_module, "TextEncoder", Reader)
    first, second = training_skus(2)
    schema = SHARD_SCHEMA.append(PHOTO_SHARD.field("title"))
    shards = write_shard(
        tmp_path / "a", [photo_row(first, title=title) for title in ("a", "bb")], schema=schema
    )
    others = write_shard(tmp_path / "b", [photo_row(second, title="cccc")], schema=schema)
    config = tiny(text_encoder="reader", text_smoothing=0.5)
    model = run(shards, tmp_path / "one", config=config, max_images=4)
    assert json.loads((model / "config.json").read_text())["text_smoothing"] == 0.5
    assert load_file(model / TEXT_BANK)["embeddings"].tolist() == [[1.0] * 3, [2.0] * 3]
    again = train(
        photos_uri=others,
        output=tmp_path / "two",
        config=config,
        device=CPU,
        limits=Limits(max_images=4),
        init=resolve(str(model), None),
    )
    assert load_file(again / TEXT_BANK)["embeddings"].tolist() == [[1.0] * 3, [2.0] * 3, [4.0] * 3]
    without = run(shards, tmp_path / "three", config=tiny(text_encoder="reader"), max_images=4)
    assert not (without / TEXT_BANK).exists()
    assert "text_smoothing" not in json.loads((without / "config.json").read_text())


def test_a_model_states_whether_it_was_trained_on_descriptions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And reads the finish, but not the main colour, which is a condition of its own."""
    monkeypatch.setattr(train_module, "TextEncoder", Reader)
    monkeypatch.setattr(Reader, "read", [])
    fields = [PHOTO_SHARD.field(name) for name in ("title", "description", "colour", "finish")]
    row = photo_row("a", title="Cup, Red", colour="Red", finish="chrome")
    for name, description in (("with", "To drink."), ("without", None)):
        shard = write_shard(
            tmp_path / f"{name}-shard",
            [row | {"description": description}],
            schema=pa.unify_schemas([SHARD_SCHEMA, pa.schema(fields)]),
        )
        model = run(shard, tmp_path / name, config=tiny(text_encoder="reader"), max_images=4)
        config = json.loads((model / "config.json").read_text())
        assert config["reads_descriptions"] == (description is not None)
        assert not config["whole_titles"]
    assert Reader.read == ["Cup, chrome To drink.", "Cup, chrome"]


def test_a_model_says_what_colours_are_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained on, it knows the names that it knew, and reads them out of the texts."""
    monkeypatch.setattr(train_module, "TextEncoder", Reader)
    monkeypatch.setattr(Reader, "read", [])
    schema = pa.unify_schemas([SHARD_SCHEMA, pa.schema([PHOTO_SHARD.field(n) for n in ("title", "colour")])])
    first, second = training_skus(2)
    red = [photo_row(first, title="Car, red body, teal roof", colour="Red")]
    teal = [photo_row(second, colour_hex="#008080", title="Car, teal body, red roof", colour="Teal")]
    config = tiny(text_encoder="reader", accent_colours=2)
    model = run(
        write_shard(tmp_path / "a", red, schema=schema), tmp_path / "one", config=config, max_images=4
    )
    stored = json.loads((model / "config.json").read_text())
    assert stored["colour_names"] == {"red": "#B40000"}
    assert stored["network"]["accent_colours"] == 2
    again = train(
        photos_uri=write_shard(tmp_path / "b", teal, schema=schema),
        output=tmp_path / "two",
        config=config,
        device=CPU,
        limits=Limits(max_images=4),
        init=resolve(str(model), None),
    )
    assert json.loads((again / "config.json").read_text())["colour_names"] == {
        "red": "#B40000",
        "teal": "#008080",
    }
    assert Reader.read == ["Car, body, teal roof", "Car, body, roof"]


def layout_shard(folder: Path, **changes: Any) -> Path:
    """Two reds with the label 5 and a blue with 9."""
    columns = ("title", "colour", "finish", "layout", *(["sketch"] if "sketch" in changes else []))
    fields = [PHOTO_SHARD.field(name) for name in columns]
    colours = (("Red", "#B40000", 5), ("Dark Red", "#720012", 5), ("Blue", "#1E5AA8", 9))
    rows = [
        photo_row(sku, colour_hex=value, title=f"Car, {name} body, blue roof", colour=name)
        | {"layout": condition_file("layout", number, label)}
        | changes
        for number, (sku, (name, value, label)) in enumerate(zip(training_skus(3), colours, strict=True))
    ]
    return write_shard(folder, rows, schema=pa.unify_schemas([SHARD_SCHEMA, pa.schema(fields)]))


def test_the_colour_map_has_the_photos_colours_on_a_layout(tmp_path: Path) -> None:
    """Of two reds, on the same layout; mixed with others, colours and labels go together."""
    network = {"generator_channels": 4, "modulation_channels": 4, "latent_size": 8, "max_channels": 8}
    config = replace(
        tiny(family="spade", accent_colours=1, colour_mixing=0.5, semantic_weight=1.0),
        network=network | {"colour_map": True},
    )
    folder = run(layout_shard(tmp_path / "shard"), tmp_path / "out", config=config, max_images=40)
    colour_map = load_file(folder / "generator.safetensors")
    assert colour_map["colour_map.labels"].sum() == 5 + 5 + 9
    assert any(name.endswith("shade.weight") and weight.any() for name, weight in colour_map.items())
    model = load_model(resolve(str(folder), None), CPU)
    layout = READERS["layout"](condition_file("layout", 0, 5), 32)
    products = [
        ProductConditions(category="brick", colour_hex=value, image=layout)
        for value in ("#B40000", "#720012")
    ]
    generated = model.generate([1, 1], products, 2).pixels.astype(int)
    changed = abs(generated[0] - generated[1]).max(axis=2)
    assert changed[layout == 5].mean() > changed[layout == 0].mean()


@pytest.mark.slow
def test_a_sketch_is_coloured_by_a_layout_that_is_learnt_from_the_photos(tmp_path: Path) -> None:
    """The photos need both; a product needs its sketch."""
    config = tiny(
        family="pix2pix",
        network={"generator_channels": 4, "discriminator_channels": 4, "layout_classes": 14},
        accent_colours=1,
        l1_weight=5.0,
        colour_mixing=0.5,
        prior_share=0.25,
    )
    sketch = condition_file("sketch", 0)
    shard = layout_shard(tmp_path / "both", sketch=sketch)
    folder = run(shard, tmp_path / "out", config=config, max_images=16)
    run(shard, tmp_path / "half", config=config, max_images=8)
    again = run(shard, tmp_path / "half", config=config, max_images=16, resume=True)
    weights = load_file(folder / "generator.safetensors")
    resumed = load_file(again / "generator.safetensors")
    assert all(torch.equal(weight, resumed[name]) for name, weight in weights.items())
    assert weights["colour_map.labels"].sum() == 5 + 5 + 9
    model = load_model(resolve(str(folder), None), CPU)
    assert (model.image_condition, model.learns_from) == ("sketch", "sketch")
    product = ProductConditions(
        category="brick", colour_hex="#B40000", image=READERS["sketch"](sketch, 32), accent_hexes=("#1E5AA8",)
    )
    assert model.generate([1], [product], 1).finite.all()
    for kind in ("layout", "sketch"):
        fields = [each for each in pq.read_schema(shard / "photos-000.parquet") if each.name != kind]
        rows = pq.read_table(shard / "photos-000.parquet").to_pylist()
        incomplete = write_shard(tmp_path / f"no {kind}", rows, schema=pa.schema(fields))
        with pytest.raises(BadInput, match=f"no column '{kind}', which this family needs"):
            run(incomplete, tmp_path / f"without {kind}", config=config)


@pytest.mark.parametrize(
    ("options", "missing", "message"),
    [
        ({"accent_colours": 1}, {"colour": None}, "no photo names its main colour"),
        ({"network": {"colour_map": True}}, {"colour_hex": None}, "no photo with a main colour has a layout"),
        (
            {"family": "pix2pix", "network": {"layout_classes": 14}},
            {"colour_hex": None, "sketch": condition_file("sketch", 0)},
            "no photo with a main colour has a layout",
        ),
        (
            {"network": {"layout_classes": 9}},
            {},
            "hold the label 9, but layout_classes is 9; set it to at least 10",
        ),
    ],
)
def test_colours_that_nothing_says_are_refused(
    options: dict[str, Any], missing: dict[str, None], message: str, tmp_path: Path
) -> None:
    shard = layout_shard(tmp_path / "shard", **missing)
    with pytest.raises(BadInput, match=message):
        run(shard, tmp_path / "out", config=tiny(**({"family": "spade", "network": {}} | options)))


KNOWING = {"generator_channels": 4, "modulation_channels": 4, "latent_size": 8, "max_channels": 8}


@pytest.mark.slow
def test_a_model_that_keeps_its_layouts_learns_from_photos_without_any(shards: Path, tmp_path: Path) -> None:
    """The first training has layouts. Who goes on with its model, on uploads say, needs none."""
    config = tiny(
        family="spade",
        accent_colours=1,
        layout_bank=0.1,
        network=KNOWING | {"lines": True, "colour_map": True},
    )
    folder = run(layout_shard(tmp_path / "shard"), tmp_path / "out", config=config, max_images=16)
    whole = run(layout_shard(tmp_path / "shard"), tmp_path / "whole", config=config, max_images=24)
    before = (folder / LAYOUT_PREDICTOR).read_bytes()
    again = run(layout_shard(tmp_path / "shard"), tmp_path / "out", config=config, max_images=24, resume=True)
    kept = {name: (again / name).read_bytes() for name in (LAYOUT_BANK, LAYOUT_PREDICTOR)}
    assert kept == {name: (whole / name).read_bytes() for name in kept}
    assert before != kept[LAYOUT_PREDICTOR]  # it goes on learning
    model = load_model(resolve(str(folder), None), CPU)
    assert (model.image_condition, model.learns_from) == (None, "layout")
    product = ProductConditions(category="brick", colour_hex="#B40000")
    assert model.generate([1, 2], [product] * 2, 2).finite.all()
    later = train(
        photos_uri=shards,
        output=tmp_path / "later",
        config=changed(config, accent_colours=0),
        device=CPU,
        limits=Limits(max_images=8),
        init=resolve(str(folder), None),
    )
    assert (later / LAYOUT_PREDICTOR).read_bytes() == kept[LAYOUT_PREDICTOR]
    grown = load_model(resolve(str(later), None), CPU)
    assert grown.layout_bank is not None
    assert {*grown.layout_bank.categories} == {"brick", "plant"}
    assert len(grown.layout_bank.categories) == 8
    with pytest.raises(BadInput, match="no column 'layout'"):
        run(shards, tmp_path / "none", config=config)


def test_layouts_are_kept_by_texts_without_the_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But with it where a training goes on from a model that kept them so, before files said how."""
    monkeypatch.setattr(train_module, "TextEncoder", Reader)
    monkeypatch.setattr(Reader, "read", [])
    shard = layout_shard(tmp_path / "shard", title="Cup", finish="chrome")
    config = tiny(family="spade", text_encoder="reader", layout_bank=0.1, network=KNOWING)
    new = run(shard, tmp_path / "new", config=config, max_images=4)
    run(shard, tmp_path / "later", config=config, max_images=4, init=resolve(str(new), None))
    table = pq.read_table(new / LAYOUT_BANK)
    said = json.loads(table.schema.metadata[b"toygan"])
    del said["say_finish"]
    pq.write_table(table.replace_schema_metadata({b"toygan": json.dumps(said)}), new / LAYOUT_BANK)
    run(shard, tmp_path / "old", config=config, max_images=4, init=resolve(str(new), None))
    every, shapes = ["Cup, chrome"] * 3, ["Cup"] * 3
    assert Reader.read == [*every, *shapes, *every, *shapes, *every, *every]
