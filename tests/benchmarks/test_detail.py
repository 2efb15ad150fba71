"""The benchmark of second stages, on pictures of nothing in particular."""

import json
from pathlib import Path

import pytest
import torch

from catalog_schemas.photos import PHOTO_SHARD
from tests.benchmarks.detail import main
from tests.models import condition_file, config_json, tiny_model, weights_of
from tests.shards import COLOURS, SHARD_SCHEMA, photo, photo_row, write_shard
from toygan.models import build

NETWORK = {
    **{"resolution": 256, "small_resolution": 32, "categories": 1},
    **{"generator_channels": 4, "discriminator_channels": 4},
}


@pytest.mark.slow
def test_an_enhancer_is_measured_beside_lanczos(tmp_path: Path) -> None:
    """A fresh one adds nothing to the bicubic enlargement, so neither has any detail."""
    rows = [
        photo_row(f"sku-{number}", colour_hex=COLOURS[number], split="val")
        | {"photo": photo(COLOURS[number], round_=True, size=(256, 256))}
        | {"layout": condition_file("layout", number), "sketch": condition_file("sketch", number)}
        for number in range(4)
    ]
    schema = SHARD_SCHEMA.append(PHOTO_SHARD.field("layout")).append(PHOTO_SHARD.field("sketch"))
    photos = write_shard(tmp_path / "photos", rows, schema=schema)
    generator, discriminator = build("enhancer", NETWORK)
    folder = tmp_path / "enhancer"
    folder.mkdir()
    (folder / "config.json").write_bytes(config_json("enhancer", NETWORK, ["any"]))
    (folder / "generator.safetensors").write_bytes(weights_of(generator))
    (folder / "discriminator.safetensors").write_bytes(weights_of(discriminator))
    first_stage = tiny_model("spade").write(tmp_path / "first")
    threads = torch.get_num_threads()
    given = {
        **{"enhancer": folder, "photos": photos, "output": tmp_path / "out"},
        **{"first-stage": first_stage, "threads": threads},
    }
    main([text for name, value in given.items() for text in (f"--{name}", str(value))])
    found = json.loads((tmp_path / "out" / "detail.json").read_text())
    assert found["photos"] == 4
    assert found["cost"]["scorers"] > 0
    for name in ("photo made small", "first"):
        by = found[name]
        assert by["lanczos"]["effective_resolution"] < 0.5
        assert by["enhancer"]["effective_resolution"] < 0.5
        assert by["enhancer"]["kid_whole_error"] > 0
    assert {each.name for each in (tmp_path / "out").iterdir()} == {
        *("detail.json", "first.jpg", "photo-made-small.jpg")
    }
