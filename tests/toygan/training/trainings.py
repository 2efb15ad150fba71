"""Small trainings for tests."""

from pathlib import Path

import torch

from tests.toygan.training.tiny import tiny
from toygan.artifact.files import ModelFiles
from toygan.training.checkpoint import checkpoint_folders
from toygan.training.config import TrainConfig
from toygan.training.limits import Limits
from toygan.training.train import train

CPU = torch.device("cpu")


def run(
    shards: Path,
    output: Path,
    *,
    config: TrainConfig | None = None,
    max_images: int | None = 40,
    max_minutes: float | None = None,
    resume: bool = False,
    init: ModelFiles | None = None,
) -> Path:
    return train(
        photos_uri=shards,
        output=output,
        config=tiny() if config is None else config,
        device=CPU,
        limits=Limits(max_images=max_images, max_minutes=max_minutes),
        resume=resume,
        init=init,
    )


def final_files(output: Path) -> dict[str, bytes]:
    """What an uninterrupted training and a resumed one must agree on, by file."""
    files = [
        *checkpoint_folders(output)[-1].iterdir(),
        *(output / "model").iterdir(),
        *output.glob("grids/*"),
    ]
    return {str(file.relative_to(output)): file.read_bytes() for file in files}
