"""At which size the layout predictor looks at a photo."""

from pathlib import Path

import numpy as np
import torch

from tests.enhancers import tiny_enhancer
from tests.models import TinyFiles, condition_file, tiny_with_layouts
from tests.shards import photo_row, write_shard
from toygan.artifact.enhancer import enhancer_files
from toygan.calibration.photos import photos_of
from toygan.data.photos import load_photos


def test_a_photo_is_looked_at_in_the_generators_size(tmp_path: Path) -> None:
    tiny = tiny_with_layouts(lines=True)
    model = TinyFiles(name=tiny.name, files={**tiny.files, **enhancer_files(tiny_enhancer())}).load()
    assert (model.resolution, model.generated_resolution) == (64, 32)
    assert model.layout_predictor is not None
    seen: list[int] = []
    segmenter = model.layout_predictor.segmenter
    segmenter.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[-1]))
    rows = [photo_row("toy", "car", photo=condition_file("sketch", 3, side=64))]
    shard = write_shard(tmp_path / "photos", rows)
    found = photos_of(model, shard, split="train")
    assert seen == [32]
    (small,) = load_photos(shard, resolution=32, split="train").images
    drawn = model.layout_predictor(small)
    assert found.condition_images is not None
    assert found.lines is not None
    assert found.condition_images.shape == found.lines.shape == (1, 64, 64)
    quarters = found.condition_images[0].numpy().reshape(32, 2, 32, 2)
    same = (quarters == drawn.layout[:, None, :, None]).mean()
    assert same > 0.9  # the borders between labels are smooth
    lines = torch.nn.functional.avg_pool2d(found.lines[None].float(), 2)[0, 0].numpy()
    assert np.abs(lines - drawn.lines).mean() < 4
