"""Processes that train together end where one process with the joint batch does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.toygan.training.tiny import tiny
from toygan.errors import BadInput
from toygan.training.checkpoint import checkpoint_folders
from toygan.training.distributed import ALONE, Distributed, join_distributed
from toygan.training.limits import Limits
from toygan.training.train import train

REPOSITORY = Path(__file__).parents[3]
# No batch normalisation, which sees a share of the batch only where there is no GPU; full precision.
CONFIG = {
    "network": {"generator_units": [16, 32, 16], "discriminator_units": [16, 8]},
    "data": {"batch_size": 8},
    "optimizer": {"precision": "fp32"},
    "logging": {"log_every_images": 16, "checkpoint_every_images": 32},
}
IMAGES = 64


def launch(launcher: list[str], shards: Path, output: Path, config: Path) -> None:
    arguments = ["train", "--photos", shards, "--family", "mlp", "--resolution", 32, "--config", config]
    arguments += ["--output", output, "--max-images", IMAGES, "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "-m", "flows.cli", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


TORCHRUN = ["torch.distributed.run", "--nnodes", "1", "--nproc-per-node"]
ACCELERATE = ["accelerate.commands.launch", "--cpu", "--num_machines", "1", "--mixed_precision", "no"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("config") / "config.json"
    file.write_text(json.dumps(CONFIG))
    return file


@pytest.fixture(scope="module")
def alone(shards: Path, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of the joint batch."""
    output = tmp_path_factory.mktemp("alone")
    launch([*TORCHRUN, "1", "--standalone"], shards, output, config)
    return output


@pytest.mark.parametrize(
    "launcher",
    [
        [*TORCHRUN, "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"],
        [*ACCELERATE, "--num_processes", "2", "--main_process_port", "0"],
    ],
    ids=["torchrun", "accelerate launch"],
)
@pytest.mark.service
def test_two_processes_give_the_weights_of_one(
    launcher: list[str], shards: Path, alone: Path, config: Path, tmp_path: Path
) -> None:
    launch(launcher, shards, tmp_path / "two", config)
    one, two = checkpoint_folders(alone), checkpoint_folders(tmp_path / "two")
    assert [folder.name for folder in one] == [folder.name for folder in two]
    expected, found = (load_file(folders[-1] / "state.safetensors") for folders in (one, two))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5, msg=name)
    lines = [json.loads(line) for line in (tmp_path / "two" / "log.jsonl").read_text().splitlines()]
    assert [line["images_seen"] for line in lines] == [16, 32, 48, 64]  # by one process alone


def test_a_batch_that_cannot_be_shared_is_refused(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Three:
        def __enter__(self) -> Distributed:
            return Distributed(index=0, count=3)

        def __exit__(self, *error: object) -> None: ...

    monkeypatch.setattr("toygan.training.train.join_distributed", lambda device: Three())
    with pytest.raises(BadInput, match="a batch of 4 cannot be shared by 3 processes"):
        train(
            photos_uri=shards,
            output=tmp_path,
            config=tiny(),
            device=torch.device("cpu"),
            limits=Limits(max_images=4),
        )


def test_one_gpu_for_all_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(BadInput, match="cuda:0 is a single device for all processes"),
        join_distributed(torch.device("cuda:0")),
    ):
        pass


def test_alone() -> None:
    with join_distributed(torch.device("cpu")) as distributed:
        assert distributed is ALONE
    values = torch.tensor([1.0, 2.0])
    assert distributed.is_main
    assert distributed.mean(values) is values
    assert distributed.any(True)
    assert not distributed.any(False)
