"""Who draws the layouts of photos that came without."""

from dataclasses import dataclass
from math import exp, log

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.shards import COLOURS, photo_row, write_shard
from toygan.artifact.layout_predictor import LayoutPredictor
from toygan.data.photos import load_photos
from toygan.errors import ModelError
from toygan.images import from_uint8
from toygan.models.layers import Conditions
from toygan.models.segmenter import Segmenter
from toygan.training.layout_predictor import INK_WEIGHT, drawing_loss, fresh_segmenter

CLASSES = 4


@dataclass
class GeneratedBatch:
    images: Tensor  # (N, 3, 32, 32) uint8
    conditions: Conditions


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> GeneratedBatch:
    """Squares and discs in three colours, with their layouts and the edges of these."""
    rows = [
        photo_row(f"{number}", ("brick", "plant")[number % 2], COLOURS[number % 3]) for number in range(12)
    ]
    photos = load_photos(write_shard(tmp_path_factory.mktemp("drawn"), rows), resolution=32, split="train")
    product = photos.images.float().mean(1) < 200
    labels = torch.tensor([1 + COLOURS.index(str(each)) for each in photos.colour_hexes])
    edges = product != product.roll(1, dims=2)
    sketch = torch.where(edges, -1.0, 1.0)[:, None]
    return GeneratedBatch(photos.images, {"layout": product * labels[:, None, None], "sketch": sketch})


@pytest.fixture(scope="module")
def learnt(generated: GeneratedBatch) -> LayoutPredictor:
    torch.manual_seed(0)
    segmenter = fresh_segmenter(CLASSES)
    optimizer = torch.optim.Adam(segmenter.parameters(), lr=3e-3)
    for _ in range(150):
        loss = drawing_loss(segmenter(from_uint8(generated.images)), generated.conditions)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return LayoutPredictor(segmenter=segmenter.eval().requires_grad_(False))


@pytest.mark.slow
def test_it_draws_what_it_sees(generated: GeneratedBatch, learnt: LayoutPredictor) -> None:
    for row in range(6):
        found = learnt(generated.images[row])
        assert found.layout.shape == found.lines.shape == (32, 32)
        wanted = generated.conditions["layout"][row]
        assert (torch.from_numpy(found.layout) == wanted).float().mean() > 0.95
        ink = 255 - torch.from_numpy(found.lines).float()
        on_edges = generated.conditions["sketch"][row, 0] < 0
        assert ink[on_edges].mean() > 100 > 50 > ink[~on_edges].mean()


def test_who_never_saw_a_line_draws_none(generated: GeneratedBatch) -> None:
    torch.manual_seed(0)
    found = LayoutPredictor(segmenter=fresh_segmenter(CLASSES).eval())(generated.images[0])
    assert found.lines.min() > 245


def test_the_loss_by_hand() -> None:
    """One picture of four pixels, three of them ground: weights of the root of 4/3, and of 4."""
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 1, 0, 0] = log(3)  # the product's pixel: three quarters say so
    layout = torch.tensor([[[1, 0], [0, 0]]])
    ground, product = (4 / 3) ** 0.5, 2.0
    wanted = (3 * ground * log(2) + product * log(4 / 3)) / (3 * ground + product)
    assert drawing_loss(logits, {"layout": layout}).item() == pytest.approx(wanted, rel=1e-5)
    sketch = torch.ones(1, 1, 2, 2)
    given: Conditions = {"layout": layout, "sketch": sketch}
    assert drawing_loss(logits, given).item() == pytest.approx(wanted, rel=1e-5)  # blank: unknown
    sketch[0, 0, 1, 1] = -1
    logits[:, 2] = -1.0
    ink = (3 * log(1 + exp(-1)) + log(1 + exp(1))) / 4
    assert drawing_loss(logits, given).item() == pytest.approx(wanted + INK_WEIGHT * ink, rel=1e-5)
    two = {name: torch.cat([value, value]) for name, value in given.items()}
    two["sketch"] = F.pad(sketch, (0, 0, 0, 0, 0, 0, 0, 1), value=1.0)
    both = drawing_loss(torch.cat([logits, logits]), two)
    assert both.item() == pytest.approx(wanted + INK_WEIGHT * ink, rel=1e-5)  # of the known one


@pytest.mark.slow
def test_it_is_the_same_when_it_is_read_again(generated: GeneratedBatch, learnt: LayoutPredictor) -> None:
    content = learnt.to_file()
    again = LayoutPredictor.from_file(content, CLASSES)
    assert again.to_file() == content
    assert (again(generated.images[0]).layout == learnt(generated.images[0]).layout).mean() > 0.99


def test_one_for_other_labels_or_none_is_refused() -> None:
    content = LayoutPredictor(segmenter=Segmenter(9)).to_file()
    with pytest.raises(ModelError, match="do not fit"):
        LayoutPredictor.from_file(content, CLASSES)
    with pytest.raises(ModelError, match="cannot be read"):
        LayoutPredictor.from_file(b"nothing", CLASSES)
