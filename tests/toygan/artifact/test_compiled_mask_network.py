"""The mask network by onnxruntime: the same logits as torch finds, for both looks at a snapshot."""

from pathlib import Path

import pytest
import torch

from toygan.artifact.compiled_mask_network import CompiledMaskNetwork
from toygan.artifact.mask_network_file import mask_network_file, read_mask_network
from toygan.models.mask_network import TRUNK_SIDE, MaskNetwork

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def content() -> bytes:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return mask_network_file(MaskNetwork())


@torch.inference_mode()
def test_it_finds_the_logits_that_torch_finds(content: bytes, tmp_path: Path) -> None:
    network = read_mask_network(content)
    compiled = CompiledMaskNetwork(content, folder=tmp_path)
    again = CompiledMaskNetwork(content, folder=tmp_path)
    for side in (TRUNK_SIDE, 2 * TRUNK_SIDE):
        pictures = torch.rand(1, 3, side, side) * 2 - 1
        logits = network(pictures)
        torch.testing.assert_close(compiled(pictures), logits, atol=1e-3, rtol=1e-3)
        assert torch.equal(again(pictures), compiled(pictures))
    assert len(list(tmp_path.iterdir())) == 1


def test_other_weights_are_another_network(content: bytes, tmp_path: Path) -> None:
    other = read_mask_network(content)
    other.logit.bias += 1
    pictures = torch.zeros(1, 3, TRUNK_SIDE, TRUNK_SIDE)
    first, second = (
        CompiledMaskNetwork(each, folder=tmp_path)(pictures) for each in (content, mask_network_file(other))
    )
    torch.testing.assert_close(second, first + 1, atol=1e-3, rtol=1e-3)


def test_the_weights_can_be_had_for_torch(content: bytes, tmp_path: Path) -> None:
    weights = CompiledMaskNetwork(content, folder=tmp_path).in_torch().state_dict()
    wanted = read_mask_network(content).state_dict()
    assert all(torch.equal(weights[name], wanted[name]) for name in wanted)
