"""Keras files and SavedModels give what torch gives, where neither torch nor toygan is installed."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.models import tiny_model
from tests.toygan.interchange import without_torch
from tests.toygan.interchange.families import CASES, inputs_of
from toygan.errors import BadInput
from toygan.interchange.export import export_model
from toygan.interchange.networks import Network, networks_of
from toygan.interchange.trace import trace

LARGEST_DIFFERENCE = 1e-3  # of pictures in [-1, 1]
WHOLE = "enhancer"  # the case that is exported with everything, SavedModels too
# Together they have all operations of all families.
TRANSLATED = ("stylegan", "projected", "pix2pix in two parts", "spade in colours", "studio", WHOLE)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Keras files of each case, and the outputs of its networks without torch."""
    folder = tmp_path_factory.mktemp("keras")
    for case in TRANSLATED:
        make = CASES[case]
        if case == WHOLE:
            export_model(make(), "keras", folder / case)
        for network in networks_of(make()):
            if case != WHOLE:
                write_alone(network, folder / case)
            inputs = {name: to_last(value.numpy()) for name, value in inputs_of(network).items()}
            np.savez(folder / case / f"{network.name}.inputs.npz", **inputs)
    subprocess.run([sys.executable, "-I", without_torch.__file__, folder], check=True)
    return folder


def write_alone(network: Network, folder: Path) -> None:
    program = trace(network)
    from toygan.interchange.keras_translate import translate

    folder.mkdir(exist_ok=True)
    translate(network, program).save(folder / f"{network.name}.keras")


def to_last(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.moveaxis(value, 1, 3) if value.ndim == 4 else value


def assert_as_torch(network: Network, found: Mapping[str, np.ndarray[Any, Any]]) -> None:
    for pictures in without_torch.BATCHES:
        inputs = {name: value[:pictures] for name, value in inputs_of(network).items()}
        for port, wanted in zip(network.outputs, network.run(inputs), strict=True):
            given = torch.from_numpy(found[f"{port.name}-{pictures}"])
            torch.testing.assert_close(
                given, torch.from_numpy(to_last(wanted.numpy())), atol=LARGEST_DIFFERENCE, rtol=0
            )


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.parametrize("case", TRANSLATED)
def test_keras_gives_the_pictures_of_torch(case: str, exported: Path) -> None:
    for network in networks_of(CASES[case]()):
        assert_as_torch(network, np.load(exported / case / f"{network.name}.keras.outputs.npz"))


@pytest.mark.slow
@pytest.mark.service
def test_a_saved_model_gives_the_pictures_of_torch(exported: Path) -> None:
    for network in networks_of(CASES[WHOLE]()):
        assert_as_torch(network, np.load(exported / WHOLE / f"{network.name}.saved_model.outputs.npz"))


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new"), [(8, 28), (64, 28), (512, 224), (24, 24)])
@pytest.mark.parametrize(
    "options", [{"mode": "bilinear"}, {"mode": "bilinear", "antialias": True}, {"mode": "bicubic"}]
)
def test_resizing_has_the_weights_of_torch(old: int, new: int, options: dict[str, Any]) -> None:
    """The small models of the other tests never make a picture smaller."""
    from toygan.interchange.keras_pictures import _weights

    aten = torch.ops.aten
    operations = {
        ("bilinear", False): aten.upsample_bilinear2d.vec,
        ("bilinear", True): aten._upsample_bilinear2d_aa.vec,
        ("bicubic", False): aten.upsample_bicubic2d.vec,
    }
    picture = torch.rand(2, 3, old, old, generator=torch.Generator().manual_seed(0))
    weights = _weights(operations[options["mode"], options.get("antialias", False)], old, new, False)
    found = torch.einsum("bchw,hH,wW->bcHW", picture, weights, weights)
    wanted = nn.functional.interpolate(picture, size=(new, new), align_corners=False, **options)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.service
def test_a_keras_export_describes_its_files(exported: Path) -> None:
    said = json.loads((exported / WHOLE / "interchange.json").read_text())
    assert said["channels_axis"] == 3
    assert list(said["networks"]) == ["generator", "enhancer"]
    assert said["networks"]["enhancer"]["inputs"][0]["shape"] == ["batch", 32, 32, 3]
    for entry in said["networks"].values():
        for file in (entry, *entry["saved_model"]):
            assert (exported / WHOLE / file["file"]).stat().st_size == file["bytes"]
    assert (exported / WHOLE / "run_network.py").read_text().startswith('"""Runs the networks')


def keras_example() -> str:
    """The Python example of the README of exports."""
    text = (resources.files("toygan") / "interchange" / "README.md").read_text(encoding="utf-8")
    block = re.search(r"\n((?:    .*\n)(?:    .*\n|\n)*)", text[text.index("## Keras") :])
    assert block is not None
    return dedent(block.group(1))


@pytest.mark.slow
@pytest.mark.service
def test_the_example_of_the_readme_writes_pictures(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "exported").symlink_to(exported / WHOLE)
    subprocess.run([sys.executable, "-I", "-c", keras_example()], cwd=tmp_path, check=True)
    assert len(list(tmp_path.glob("*.png"))) == 4


@pytest.mark.slow
def test_missing_tensorflow_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(BadInput, match=r"need TensorFlow: pip install 'toygan\[keras\]'"):
        export_model(tiny_model().load(), "keras", tmp_path / "to")
    assert not (tmp_path / "to").exists()
