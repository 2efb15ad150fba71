"""The scorer's network by onnxruntime: the same evidence as torch finds, kept for the next start."""

from pathlib import Path

import pytest
import torch

from toygan.artifact.compiled_extractor import CompiledExtractor
from toygan.artifact.feature_extractor import FeatureExtractor
from toygan.artifact.probe_weights import SIDE

pytestmark = pytest.mark.slow

RESOLUTION = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="module")
def compiled(folder: Path) -> CompiledExtractor:
    return CompiledExtractor(SIDE, RESOLUTION, folder=folder)


@torch.inference_mode()
def test_it_finds_the_evidence_that_torch_finds(compiled: CompiledExtractor) -> None:
    extractor = FeatureExtractor(SIDE)
    for pictures in (1, 3):
        images = torch.rand(pictures, 3, RESOLUTION, RESOLUTION) * 2 - 1
        torch.testing.assert_close(compiled(images), extractor(images), atol=1e-4, rtol=1e-4)
    assert compiled.size == extractor.size


def test_a_batch_of_one_shape_has_the_same_evidence_again(compiled: CompiledExtractor) -> None:
    images = torch.rand(4, 3, RESOLUTION, RESOLUTION)
    assert torch.equal(compiled(images), compiled(images))
    mates = images.flip(0)
    mates[0] = images[0]
    assert torch.equal(compiled(images)[0], compiled(mates)[0])


def test_the_exported_network_is_kept_and_a_damaged_one_made_anew(
    compiled: CompiledExtractor, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (kept,) = folder.iterdir()
    content, made = kept.read_bytes(), kept.stat().st_mtime_ns
    CompiledExtractor(SIDE, RESOLUTION, folder=folder)
    assert kept.stat().st_mtime_ns == made
    kept.write_bytes(content[:1000])
    images = torch.rand(2, 3, RESOLUTION, RESOLUTION)
    assert torch.equal(CompiledExtractor(SIDE, RESOLUTION, folder=folder)(images), compiled(images))
    assert kept.read_bytes()[:1000] == content[:1000]
    assert kept.stat().st_size == len(content)
    assert [path.name for path in folder.iterdir()] == [kept.name]
    assert f"{kept} cannot be used" in caplog.text
