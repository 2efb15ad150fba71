"""Which models can be exported, and the inputs that come with them."""

from pathlib import Path

import pytest

from tests.models import CPU, tiny_studio
from toygan.artifact.load import load_model
from toygan.errors import BadInput
from toygan.interchange.example_inputs import example_inputs
from toygan.interchange.export import export_model
from toygan.interchange.networks import networks_of
from toygan.registry.models import bundled_models, resolve


def test_a_model_for_snapshots_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="tiny-studio needs snapshots"):
        export_model(load_model(tiny_studio(), CPU), "onnx", tmp_path / "made")
    assert not (tmp_path / "made").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", [each for each in bundled_models() if "studio" not in each])
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
