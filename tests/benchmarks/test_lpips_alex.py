"""Reading LPIPS's weights: arrays alone."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.benchmarks.lpips_alex import load_lpips, lpips_distances

SHAPES = [(64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3)]


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    file, made = tmp_path / "alexnet.ckpt", tmp_path / "made"

    class Bad:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (made,)

    file.write_bytes(pickle.dumps({"AlexNet_0": Bad()}))
    with pytest.raises(pickle.UnpicklingError, match="arrays alone"):
        load_lpips(file)
    assert not made.exists()


def test_distances_of_equal_and_of_different_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    layers = {
        f"Conv_{number}": {
            "kernel": rng.normal(0, 0.05, (side, side, before, after)).astype(np.float32),
            "bias": np.zeros(after, np.float32),
        }
        for number, (after, before, side) in enumerate(SHAPES)
    }
    file = tmp_path / "alexnet.ckpt"
    # Protocol 3 names numpy's modules; newer numpy calls one of them otherwise.
    file.write_bytes(
        pickle.dumps({"AlexNet_0": layers}, protocol=3).replace(b"numpy._core.multi", b"numpy.core.multi")
    )
    network = load_lpips(file)
    assert torch.equal(
        network.get_parameter("net.slice1.0.weight"),
        torch.from_numpy(layers["Conv_0"]["kernel"]).permute(3, 2, 0, 1),
    )
    pictures = torch.from_numpy(rng.integers(0, 256, (2, 3, 64, 64), dtype=np.uint8))
    distances = lpips_distances(network, pictures, torch.stack([pictures[0], pictures[0]]))
    assert distances[0] == 0
    assert distances[1] > 0
