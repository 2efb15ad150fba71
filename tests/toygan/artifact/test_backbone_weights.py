from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from toygan.artifact.backbone_weights import pretrained_weights
from toygan.errors import ModelError
from toygan.models.backbone import STRIDES, create_backbone, feature_channels

TINY = "test_efficientnet"


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_efficientnet_lite1", TINY, "test_resnet"])
def test_maps_lie_at_the_strides(name: str) -> None:
    backbone = create_backbone(name)
    with torch.inference_mode():
        maps = backbone(torch.rand(2, 3, 64, 64))
    assert [each.shape[1] for each in maps] == list(feature_channels(name))
    assert [each.shape[2] for each in maps] == [64 // stride for stride in STRIDES]


def test_pictures_are_normalised_as_on_imagenet() -> None:
    """A picture of the network's mean colour is all zeros to it."""
    backbone = create_backbone(TINY)
    seen = []
    backbone.network.conv_stem.register_forward_hook(lambda _, given, result: seen.append(given[0]))
    mean = torch.tensor(backbone.network.pretrained_cfg["mean"])[:, None, None]
    backbone((2 * mean - 1).expand(1, 3, 32, 32))
    assert seen[0].abs().max() < 1e-6


def test_a_backbone_is_frozen_and_always_as_in_evaluation() -> None:
    backbone = create_backbone(TINY).train()
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_the_packaged_weights_fit_and_are_not_random() -> None:
    weights = pretrained_weights("tf_efficientnet_lite1")
    backbone = create_backbone("tf_efficientnet_lite1")
    backbone.network.load_state_dict(weights)
    # Batch normalisation that has seen pictures has other statistics than 0 and 1.
    assert backbone.network.bn1.running_mean.abs().max() > 0.01


def test_any_network_takes_its_weights_from_a_file(tmp_path: Path) -> None:
    """Under timm's names; what the file holds besides, such as a classifier, is left out."""
    torch.manual_seed(1)
    wanted = create_backbone(TINY).network.state_dict()
    file = tmp_path / "weights.safetensors"
    save_file({**wanted, "classifier.weight": torch.zeros(10, 256)}, file)
    weights = pretrained_weights(TINY, file)
    assert weights.keys() == wanted.keys()
    assert all(torch.equal(weights[name], value) for name, value in wanted.items())


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    weights = create_backbone(TINY).network.state_dict()
    del weights["conv_stem.weight"]
    file = tmp_path / "weights.safetensors"
    save_file(weights, file)
    with pytest.raises(ModelError, match=r"do not fit timm's test_efficientnet: conv_stem.weight missing"):
        pretrained_weights(TINY, file)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weights.pth", "must be a .safetensors file"),
        ("none.safetensors", "cannot be read"),
        ("damaged.safetensors", "cannot be read"),
    ],
)
def test_weights_that_cannot_be_read_are_refused(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"a pickle, perhaps")
    (tmp_path / "damaged.safetensors").write_bytes(b"\x08\x00")
    with pytest.raises(ModelError, match=message):
        pretrained_weights(TINY, tmp_path / name)


def test_a_network_without_known_weights_is_refused() -> None:
    with pytest.raises(ModelError, match="timm has no ImageNet weights for efficientnet_l2; use tf_"):
        pretrained_weights("efficientnet_l2")
