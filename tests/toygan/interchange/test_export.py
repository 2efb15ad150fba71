"""Which models can be exported, and the inputs that come with them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models import CPU
from tests.toygan.interchange.families import CASES
from toygan.artifact.load import load_model
from toygan.conditions.text import TextEncoder
from toygan.conditions.text_bank import TextBank
from toygan.conditions.text_encoder_files import DEFAULT_TEXT_ENCODER
from toygan.interchange.description import describe
from toygan.interchange.example_inputs import example_inputs
from toygan.interchange.networks import networks_of
from toygan.registry.models import bundled_models, resolve


@pytest.mark.slow
@pytest.mark.parametrize("name", bundled_models())
def test_example_inputs_fit_the_networks_of_bundled_models(name: str) -> None:
    model = load_model(resolve(name, None), CPU)
    inputs = example_inputs(model)
    networks = networks_of(model)
    made = {"images", "small", "predicted_layout"}
    wanted = {port.name: port for network in networks for port in network.inputs if port.name not in made}
    assert inputs.keys() == wanted.keys()
    for port in wanted.values():
        assert inputs[port.name].shape == (4, *port.shape)
        assert inputs[port.name].dtype == port.dtype


def test_the_description_says_how_a_title_becomes_an_embedding() -> None:
    bank = TextBank.of(torch.randn((5, 384), generator=torch.Generator().manual_seed(0)), 0.05)
    assert bank is not None
    encoder = TextEncoder(DEFAULT_TEXT_ENCODER, CPU, known=bank)
    said = describe(replace(CASES["mlp"](), text_encoder=encoder), "onnx", {})["text_encoder"]
    assert said["name"] == DEFAULT_TEXT_ENCODER
    assert said["use"].startswith("mean of the last hidden states over the tokens of the title without")
    assert said["colour_names"] == {"teal": "#008080"}
    assert said["text_bank"]["temperature"] == 0.05
    text = encoder.embed(["a red car"]).numpy()
    rows = bank.embeddings.numpy()
    away, keys = text - rows.mean(axis=0), rows - rows.mean(axis=0)
    cosine = away @ keys.T / np.linalg.norm(away) / np.linalg.norm(keys, axis=1)
    weights = np.exp(cosine / 0.05) / np.exp(cosine / 0.05).sum()
    assert np.allclose(weights @ rows, encoder.encode(["a red car"]).numpy(), atol=1e-5)
