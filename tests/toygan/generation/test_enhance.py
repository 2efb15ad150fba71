import json

import pytest
import torch
from safetensors.torch import save

from tests.models import tiny_model, weights_of
from toygan.errors import ModelError
from toygan.generation.enhance import load_enhancer
from toygan.models import build
from toygan.registry import ModelFiles

CPU = torch.device("cpu")
NETWORK = {
    **{"resolution": 64, "small_resolution": 32, "categories": 1},
    **{"generator_channels": 4, "discriminator_channels": 4},
}


def files(**changes: bytes) -> ModelFiles:
    """An enhancer whose weights add something to the picture."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator, discriminator = build("enhancer", NETWORK)
        torch.nn.init.normal_(generator.to_rgb.weight, std=0.1)
    content = {
        "config.json": json.dumps({"family": "enhancer", "network": NETWORK}).encode(),
        "generator.safetensors": weights_of(generator),
        "discriminator.safetensors": weights_of(discriminator),
    }
    renamed = {name.replace("_", "."): data for name, data in changes.items()}
    return ModelFiles(name="tiny-enhancer", version="0", files=content | renamed)


def test_what_is_known_of_a_picture_is_used() -> None:
    enhancer = load_enhancer(files(), CPU)
    small = torch.full((1, 3, 32, 32), 200, dtype=torch.uint8)
    layout = torch.zeros(1, 64, 64, dtype=torch.int64)
    layout[:, 20:40, 20:40] = 1
    lines = torch.ones(1, 1, 64, 64)
    lines[:, :, 30] = -1
    alone = enhancer.enlarge(small)
    assert alone.shape == (1, 3, 64, 64)
    assert alone.dtype == torch.uint8
    assert not torch.equal(alone, enhancer.enlarge(small, layout=layout))
    assert not torch.equal(alone, enhancer.enlarge(small, lines=lines))


def test_a_picture_has_the_same_bytes_whatever_its_mates() -> None:
    enhancer = load_enhancer(files(), CPU)
    small = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    together = enhancer.enlarge(small)
    for row in range(3):
        assert torch.equal(enhancer.enlarge(small[row : row + 1])[0], together[row])


def test_a_model_that_draws_is_no_enhancer() -> None:
    tiny = tiny_model()
    source = ModelFiles(name=tiny.name, version=tiny.version, files=tiny.files)
    with pytest.raises(ModelError, match="is of the family dcgan, which enlarges nothing"):
        load_enhancer(source, CPU)


@pytest.mark.parametrize("config", [b"[]", b'{"family": "enhancer"}', b'{"family": "none", "network": {}}'])
def test_a_damaged_config_is_named(config: bytes) -> None:
    with pytest.raises(ModelError, match=r"config\.json of the model tiny-enhancer"):
        load_enhancer(files(config_json=config), CPU)


@pytest.mark.parametrize("weights", [b"", save({"head.weight": torch.zeros(1)})])
def test_damaged_weights_are_named(weights: bytes) -> None:
    with pytest.raises(ModelError, match=r"generator\.safetensors of the model tiny-enhancer"):
        load_enhancer(files(generator_safetensors=weights), CPU)
