import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from toygan.artifact.save import save_model
from toygan.errors import ModelError
from toygan.training.checkpoint import checkpoint_folders, load_checkpoint, load_weights, save_checkpoint

CONFIG = {"seed": 0, "betas": [0.5, 0.999]}


def network() -> nn.Module:
    layers = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 1, 3))
    return layers.to(memory_format=torch.channels_last)


def trained(steps: int = 3) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(steps)
    module = network()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01, fused=True)
    for _ in range(steps):
        optimizer.zero_grad()
        module(torch.rand(2, 3, 8, 8)).square().mean().backward()
        optimizer.step()
    return module, optimizer


def save(output: Path, images_seen: int = 64, **changes: Any) -> Path:
    module, optimizer = trained()
    parts: dict[str, Any] = {"modules": {"net": module}, "optimizers": {"adam": optimizer}}
    return save_checkpoint(
        output,
        **(
            {"images_seen": images_seen, "config": CONFIG, "photos_sha256": "ab", "extras": {}}
            | parts
            | changes
        ),
    )


def load(folder: Path, module: nn.Module | None = None, **changes: Any) -> tuple[int, nn.Module, Any]:
    module = network() if module is None else module
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01, fused=True)
    parts: dict[str, Any] = {"modules": {"net": module}, "optimizers": {"adam": optimizer}}
    images_seen, _ = load_checkpoint(folder, **({"config": CONFIG, "photos_sha256": "ab"} | parts | changes))
    return images_seen, module, optimizer


def test_all_tensors_come_back_in_the_memory_layout_of_their_weights(tmp_path: Path) -> None:
    module, optimizer = trained()
    images_seen, loaded, loaded_optimizer = load(save(tmp_path))
    assert images_seen == 64
    for key, value in module.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[key])
    for one, other in zip(module.parameters(), loaded.parameters(), strict=True):
        moments, loaded_moments = optimizer.state[one], loaded_optimizer.state[other]
        assert moments.keys() == loaded_moments.keys() == {"step", "exp_avg", "exp_avg_sq"}
        for name, moment in moments.items():
            assert torch.equal(moment, loaded_moments[name])
            assert moment.stride() == loaded_moments[name].stride()


def test_nothing_of_the_file_stays_in_memory(tmp_path: Path) -> None:
    """One number that still lies in the mapped file would keep all of it there: as much as all moments."""
    folder = save(tmp_path)
    _, module, optimizer = load(folder)
    is_mapped = str(folder) in Path("/proc/self/maps").read_text()
    assert not is_mapped
    assert module.training
    assert optimizer.state  # what was loaded is alive


def test_only_the_newest_two_are_kept(tmp_path: Path) -> None:
    for images_seen in (64, 640, 6_400):
        save(tmp_path, images_seen)
    assert [int(folder.name) for folder in checkpoint_folders(tmp_path)] == [640, 6_400]


def test_unfinished_checkpoints_are_no_checkpoints_and_are_swept(tmp_path: Path) -> None:
    unfinished = tmp_path / "checkpoints" / "0000000032.tmp"
    unfinished.mkdir(parents=True)
    (unfinished / "state.json").write_text("{")
    assert checkpoint_folders(tmp_path) == []
    save(tmp_path)
    assert [each.name for each in (tmp_path / "checkpoints").iterdir()] == ["0000000064"]


def test_no_checkpoints_yet(tmp_path: Path) -> None:
    assert checkpoint_folders(tmp_path / "nowhere") == []


def test_another_config_is_refused_by_name(tmp_path: Path) -> None:
    folder = save(tmp_path)
    with pytest.raises(ModelError, match="other values of betas, rate, seed;"):
        load(folder, config={"seed": 1, "rate": 0.1})


def test_another_family_is_refused_before_anything_else(tmp_path: Path) -> None:
    folder = save(tmp_path, config=CONFIG | {"family": "dcgan"})
    with pytest.raises(ModelError, match="is of the family dcgan, but mlp is to be trained"):
        load(folder, config={"family": "mlp", "rate": 0.1})


def test_other_photos_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path)
    with pytest.raises(ModelError, match="made with other photos"):
        load(folder, photos_sha256="cd")


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
def test_missing_and_damaged_files(tmp_path: Path, name: str) -> None:
    file = save(tmp_path) / name
    data = file.read_bytes()
    message = f"{file.parent.name} cannot be read .*; remove it to resume from the checkpoint before"
    # safetensors is read as such, whatever is inside: nothing is unpickled.
    for content in (data[: len(data) // 2], b"", pickle.dumps({"net/0.weight": 1}), b"[]", b"{}"):
        file.write_bytes(content)
        with pytest.raises(ModelError, match=message):
            load(file.parent)
    file.unlink()
    with pytest.raises(ModelError, match=message):
        load(file.parent)


def test_weights_of_another_shape(tmp_path: Path) -> None:
    folder = save(tmp_path)
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 3))
    with pytest.raises(
        ModelError,
        match=r"do not fit the model: 0\.bias: found \(5,\), wanted \(4,\); 0\.weight: found \(5, 3, 3, 3\), "
        r"wanted \(4, 3, 3, 3\); 1\.bias: .* and 4 more",
    ):
        load(folder, other)


def test_missing_and_additional_weights() -> None:
    tensors = dict(nn.Linear(2, 2).state_dict())
    with pytest.raises(ModelError, match=r"weight: found nothing, wanted \(2, 2\)"):
        load_weights(nn.Linear(2, 2), {"bias": tensors["bias"]})
    with pytest.raises(ModelError, match=r"gain: found \(2,\), wanted nothing"):
        load_weights(nn.Linear(2, 2), tensors | {"gain": torch.zeros(2)})


@pytest.mark.parametrize("key", ["adam/0/exp_avg", "adam/9/exp_avg", "adam/x/exp_avg"])
def test_moments_that_do_not_fit(tmp_path: Path, key: str) -> None:
    folder = save(tmp_path)
    tensors = load_file(folder / "state.safetensors") | {key: torch.zeros(7)}
    save_file(tensors, folder / "state.safetensors")
    with pytest.raises(
        ModelError, match=rf"optimizer does not fit the model: {key[5:]} has the shape \(7,\)"
    ):
        load(folder)


def test_a_model_takes_the_place_of_an_older_one_whole(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for steps in (1, 2):
        module, _ = trained(steps)
        save_model(folder, generator=module, discriminator=module, config=str(steps).encode())
        for name in ("generator", "discriminator"):
            tensors = load_file(folder / f"{name}.safetensors")
            assert all(torch.equal(tensors[key], value) for key, value in module.state_dict().items())
        assert (folder / "config.json").read_text() == str(steps)
        (folder / "calibration.json").write_text("of these weights")
    module, _ = trained(3)
    save_model(folder, generator=module, discriminator=module, config=b"{}")
    assert not (folder / "calibration.json").exists()
    assert [each.name for each in tmp_path.iterdir()] == ["model"]
