"""Exported networks give what torch gives, where neither torch nor toygan is installed."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.models import tiny_model
from tests.toygan.interchange import without_torch
from tests.toygan.interchange.families import CASES, inputs_of
from toygan.errors import BadInput
from toygan.images import to_uint8
from toygan.interchange.description import file_entry
from toygan.interchange.export import export_model, region_vote
from toygan.interchange.networks import CorrectedColours, Network, networks_of

CLOSE_SHARE = 0.9999  # of the pixels, within one of 255 steps
EXAMPLE_WITHOUT_TOYGAN = """
import runpy, sys
sys.modules["toygan"] = sys.modules["torch"] = None
sys.path.insert(0, sys.argv[1])
runpy.run_path(sys.argv[1] + "/example.py", run_name="__main__")
"""


Exported = Callable[[str], Path]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Gives the folder of a case: its exported model, and the outputs of its networks without torch."""

    @cache
    def export(case: str) -> Path:
        parent = tmp_path_factory.mktemp("onnx")
        export_model(CASES[case](), "onnx", parent / "model")
        for network in networks_of(CASES[case]()):
            inputs = {name: value.numpy() for name, value in inputs_of(network).items()}
            np.savez(parent / "model" / f"{network.name}.inputs.npz", **inputs)
        subprocess.run([sys.executable, "-I", without_torch.__file__, parent], check=True)
        return parent / "model"

    return export


def outputs_of(network: Network, pictures: int) -> Mapping[str, torch.Tensor]:
    inputs = {name: value[:pictures] for name, value in inputs_of(network).items()}
    return dict(zip([port.name for port in network.outputs], network.run(inputs), strict=True))


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.parametrize("case", list(CASES))
def test_onnx_gives_the_pictures_of_torch(case: str, exported: Exported) -> None:
    for network in networks_of(CASES[case]()):
        found = np.load(exported(case) / f"{network.name}.onnx.outputs.npz")
        for pictures in without_torch.BATCHES:
            for name, wanted in outputs_of(network, pictures).items():
                given = torch.from_numpy(found[f"{name}-{pictures}"])
                assert given.shape == wanted.shape
                if name == "images":
                    assert wanted.std() > 0.05
                    steps = np.abs(to_uint8(given).astype(int) - to_uint8(wanted))
                    assert (steps <= 1).mean() >= CLOSE_SHARE
                else:
                    torch.testing.assert_close(given, wanted, atol=1e-3, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.service
def test_the_description_names_files_inputs_and_opset(exported: Exported) -> None:
    folder = exported("pix2pix in two parts")
    said = json.loads((folder / "interchange.json").read_text())
    assert list(said["networks"]) == ["layout", "generator"]
    assert said["categories"] == ["brick", "car", "wheel"]
    for name, entry in said["networks"].items():
        file = folder / f"{name}.onnx"
        assert entry["sha256"] == sha256(file.read_bytes()).hexdigest()
        assert entry["opset"] == 20
        assert [each["name"] for each in entry["inputs"][:3]] == ["latents", "category", "colour"]
        assert all(each["shape"][0] == "batch" and each["meaning"] for each in entry["inputs"])
    assert said["networks"]["generator"]["inputs"][-1]["name"] == "predicted_layout"


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.parametrize("case", ["stylegan", "pix2pix in two parts", "studio", "enhancer"])
def test_the_example_draws_pictures(case: str, exported: Exported) -> None:
    result = subprocess.run(
        [sys.executable, exported(case) / "example.py"], capture_output=True, text=True, cwd="/"
    )
    assert result.returncode == 0, result.stderr
    assert len(list(exported(case).glob("picture-*.png"))) == 4


def test_a_folder_with_content_is_left_alone(tmp_path: Path) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text("mine")
    with pytest.raises(BadInput, match="is not empty; give a new folder"):
        export_model(tiny_model().load(), "onnx", tmp_path)
    assert kept.read_text() == "mine"


def test_colours_are_corrected_as_the_profile_does() -> None:
    model = CASES["spade in colours"]()
    profile = model.colour_profile
    assert profile is not None
    rng = torch.Generator().manual_seed(1)
    colours = torch.rand((12, 3, 4), generator=rng) * 3 - 1.5
    colours[..., 3] = (torch.rand((12, 3), generator=rng) > 0.3).float()
    category = torch.arange(12) % 3
    wanted = profile.correct(colours.numpy(), [model.categories[each] for each in category])
    found = CorrectedColours(profile, model.categories)(colours, category)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)


@pytest.mark.slow
@pytest.mark.service
def test_a_studio_export_says_how_its_parts_are_joined(exported: Exported) -> None:
    """Its network and its steering give the pictures of the model, where toygan is not installed."""
    model, folder = CASES["studio"](), exported("studio")
    said = json.loads((folder / "interchange.json").read_text())
    assert said["networks"]["generator"]["outputs"][0]["name"] == "product"
    assert "steering.py" in said["after_generator"]
    inputs = {name: torch.from_numpy(value) for name, value in np.load(folder / "example_inputs.npz").items()}
    with torch.inference_mode():
        wanted = to_uint8(model.generator(torch.zeros(4, 0), inputs))
    subprocess.run([sys.executable, "-I", "-c", EXAMPLE_WITHOUT_TOYGAN, folder], check=True, cwd="/")
    for number, each in enumerate(wanted):
        picture = np.asarray(Image.open(folder / f"picture-{number}.png"), dtype=int)
        assert (np.abs(picture - each) <= 1).mean() >= CLOSE_SHARE


def test_the_region_vote_of_an_export_needs_no_toygan() -> None:
    scope: dict[str, object] = {"__name__": "region_vote"}
    assert "toygan" not in region_vote().replace("toygan.models", "")
    exec(compile(region_vote(), "region_vote.py", "exec"), scope)
    assert scope["BACKGROUND"] == 0


def test_a_file_is_described_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    assert file_entry(tmp_path / "a.bin") == {
        "file": "a.bin",
        "bytes": 3,
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }
