"""The bundled mask network on white products on white, black ones on black, and hands."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from toygan.artifact.load import load_model
from toygan.artifact.product_finder import FRAME_SHARE, ProductFinder, _box, _cut
from toygan.images import decode
from toygan.registry.models import find_default

SAMPLES = sorted((Path(__file__).parent / "snapshots").glob("*.jpg"))
SIDE = 512
GOOD = 0.85  # overlap, intersection over union

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finder() -> ProductFinder:
    source = find_default(None, "photo")
    assert source is not None
    found = load_model(source, torch.device("cpu")).product_finder
    assert found is not None
    return found


def overlap(finder: ProductFinder, sample: Path) -> tuple[float, tuple[str, ...]]:
    """Returns the overlap of the mask with the exact one in the frame, and the reasons for a look."""
    framed = finder.frame(decode(sample.read_bytes()), SIDE)
    exact = torch.from_numpy(np.array(Image.open(sample.with_suffix(".png"))))
    top, bottom, left, right = _box(exact)
    side = max(bottom - top, right - left) / FRAME_SHARE
    wanted = _cut(255 * exact[None].float(), ((top + bottom) / 2, (left + right) / 2), side, SIDE)[0] > 127
    found = torch.from_numpy(framed.pixels[..., 3] > 127)
    return float((found & wanted).sum() / (found | wanted).sum()), framed.problems


@pytest.mark.parametrize("kind", ["white", "black", "hand"])
def test_a_hard_snapshot_is_cut_out_well_or_shown_to_a_person(kind: str, finder: ProductFinder) -> None:
    results = [overlap(finder, sample) for sample in SAMPLES if sample.stem.startswith(kind)]
    assert len(results) == 3
    assert all(found >= GOOD or problems for found, problems in results), results
    assert any(found >= GOOD and not problems for found, problems in results), results
