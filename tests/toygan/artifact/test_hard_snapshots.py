"""The bundled mask network on white products on white, black ones on black, and hands."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from toygan.artifact.load import load_model
from toygan.artifact.product_finder import ProductFinder, _cut
from toygan.images import decode
from toygan.registry.models import find_default

SAMPLES = sorted((Path(__file__).parent / "snapshots").glob("*.jpg"))
SIDE = 512
GOOD = 0.9  # overlap, intersection over union

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finder() -> ProductFinder:
    source = find_default(None, "photo")
    assert source is not None
    found = load_model(source, torch.device("cpu")).product_finder
    assert found is not None
    return found


def overlap(finder: ProductFinder, sample: Path) -> tuple[float, tuple[str, ...]]:
    """Returns the overlap of the mask with the exact one in one frame, and the reasons for a look."""
    framed = finder.frame(decode(sample.read_bytes()), SIDE)
    exact = torch.from_numpy(np.array(Image.open(sample.with_suffix(".png"))))
    top, left, side = framed.square
    wanted = _cut(255 * exact[None].float(), (top + side / 2, left + side / 2), side, SIDE)[0] > 127
    found = torch.from_numpy(framed.pixels[..., 3] > 127)
    return float((found & wanted).sum() / (found | wanted).sum()), framed.problems


@pytest.mark.parametrize("kind", ["white", "black", "hand"])
def test_a_hard_snapshot_is_cut_out_well_or_shown_to_a_person(kind: str, finder: ProductFinder) -> None:
    results = [overlap(finder, sample) for sample in SAMPLES if sample.stem.startswith(kind)]
    assert len(results) == 3
    assert all(found >= GOOD or problems for found, problems in results), results
    assert any(found >= GOOD and not problems for found, problems in results), results
