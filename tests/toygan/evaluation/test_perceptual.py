import pytest
import torch
from skimage import data
from timm.models import EfficientNet

from toygan.evaluation.features import load_network
from toygan.evaluation.perceptual import layer_distances, perceptual_distances


@pytest.fixture(scope="module")
def network() -> EfficientNet:
    return load_network(torch.device("cpu"))


def maps(*points: tuple[float, float]) -> torch.Tensor:
    """One picture of two channels, a column a point: (1, 2, 1, W)."""
    return torch.tensor(points, dtype=torch.float32).T[None, :, None, :]


def test_a_layer_worked_by_hand() -> None:
    # Of the four points one agrees (0), one is at a right angle (2), one opposite (4), one at 60 degrees (1).
    first = maps((1, 0), (3, 0), (0, 2), (1, 0))
    second = maps((5, 0), (0, 1), (0, -7), (0.5, 0.75**0.5))
    assert layer_distances(first, second).tolist() == pytest.approx([(0 + 2 + 4 + 1) / 4])
    assert layer_distances(second, first).tolist() == pytest.approx([7 / 4])


def test_a_point_without_features_is_at_its_neighbours_length() -> None:
    assert layer_distances(maps((0, 0)), maps((0, 0))).tolist() == [0]
    assert layer_distances(maps((0, 0)), maps((0, 3))).tolist() == pytest.approx([1])


def test_pictures(network: EfficientNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal ones are at 0, noise is nearer than another thing; order and batch-mates do not matter."""
    monkeypatch.setattr("toygan.evaluation.perceptual.AT_ONCE", 4)
    cup = torch.tensor(data.coffee()[:384, 100:484][::6, ::6].copy()).permute(2, 0, 1)
    cat = torch.tensor(data.chelsea()[:288, 100:388][::4, ::4][:64, :64].copy()).permute(2, 0, 1)
    noise = torch.randint(-6, 7, cup.shape, generator=torch.Generator().manual_seed(0))
    noisy = (cup + noise).clamp(0, 255).byte()
    reported: list[int] = []
    first, second = torch.stack([cup, cup, cup]), torch.stack([cup, noisy, cat])
    found = perceptual_distances(network, first, second, reported.append)
    assert reported == [4, 2]
    assert found[0] == 0
    assert 0 < found[1] < found[2] / 2
    assert perceptual_distances(network, second[2:], first[2:]) == pytest.approx(found[2:], rel=1e-4)


def test_no_pairs(network: EfficientNet) -> None:
    none = torch.empty((0, 3, 32, 32), dtype=torch.uint8)
    assert perceptual_distances(network, none, none).shape == (0,)
