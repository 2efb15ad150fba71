"""Networks for their shapes alone: as the real ones, quickly and without memory."""

import subprocess
import sys

import pytest
import torch

from toygan.models import build
from toygan.models.shapes import shapes_alone

NETWORK = {"categories": 3, "resolution": 32, "latent_size": 8, "condition_size": 8, "max_channels": 8}


@pytest.mark.parametrize("family", ["mlp", "dcgan", "stylegan", "pix2pix", "spade"])
def test_names_and_shapes_are_those_of_the_real_networks(family: str) -> None:
    network = NETWORK if family != "mlp" else {"categories": 3, "resolution": 32}
    with torch.random.fork_rng(devices=[]):
        real = build(family, network)
    with shapes_alone():
        shapes = build(family, network)
    for one, other in zip(real, shapes, strict=True):
        found = {name: (each.shape, each.device.type) for name, each in other.state_dict().items()}
        assert found == {name: (each.shape, "meta") for name, each in one.state_dict().items()}


@pytest.mark.service
def test_nothing_slow_is_imported_for_them() -> None:
    script = (
        "import sys\nfrom toygan.models import build\nfrom toygan.models.shapes import shapes_alone\n"
        f"with shapes_alone():\n    build('spade', {NETWORK})\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
