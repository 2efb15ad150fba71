import torch
from torch import nn
from torch.nn.utils import parametrizations

from toygan.models.spectral import spectral_norm


def layers() -> list[nn.Conv2d | nn.Linear]:
    torch.manual_seed(0)
    return [nn.Conv2d(3, 5, 4), nn.Linear(7, 2)]


def test_it_is_that_of_torch() -> None:
    for own, other in zip(layers(), layers(), strict=True):
        torch.manual_seed(1)
        spectral_norm(own)
        torch.manual_seed(1)
        parametrizations.spectral_norm(other)
        for _ in range(2):
            assert torch.equal(own.weight, other.weight)
        states = own.state_dict(), other.state_dict()
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_layer_without_memory_has_the_same_shapes() -> None:
    with torch.device("meta"):
        shapes = [spectral_norm(layer).state_dict() for layer in layers()]
    for without, layer in zip(shapes, layers(), strict=True):
        with_memory = spectral_norm(layer).state_dict()
        assert {name: each.shape for name, each in without.items()} == {
            name: each.shape for name, each in with_memory.items()
        }
        assert all(each.is_meta for each in without.values())
