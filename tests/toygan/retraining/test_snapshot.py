from pathlib import Path

import pyarrow as pa
import torch

from catalog_schemas.photos import PHOTO_INDEX, PHOTO_SHARD
from tests.models import condition_file
from tests.shards import SHARD_SCHEMA, photo_row, write_shard
from toygan.conditions.text_config import TextConfig
from toygan.data.photo import WantedConditions
from toygan.data.photos import load_photos
from toygan.data.sources import read_photos
from toygan.data.views import encode_views
from toygan.retraining.snapshot import take_snapshot
from toygan.storage.memory import MemoryStore


def test_what_is_known_of_a_photo_is_kept(tmp_path: Path) -> None:
    """Texts and views: the champion may have learnt from them, and goes on doing so."""
    known = {"title": "Cup, Red", "colour": "Red", "finish": "chrome", "description": "To drink."}
    rows = [
        photo_row("a", **known, azimuth_deg=20.0, elevation_deg=15.0),
        photo_row("b", title="Box", azimuth_deg=-40.0, elevation_deg=25.0),
        photo_row("c"),
    ]
    fields = [PHOTO_SHARD.field(name) for name in (*known, "azimuth_deg", "elevation_deg")]
    photos = write_shard(
        tmp_path / "photos", rows, schema=pa.unify_schemas([SHARD_SCHEMA, pa.schema(fields)])
    )
    take_snapshot(
        tmp_path / "snapshot",
        store=MemoryStore("shop"),
        index=PHOTO_INDEX.empty_table(),
        photos=str(photos),
        categories=("brick",),
        resolution=32,
    )
    kept = load_photos(tmp_path / "snapshot", resolution=32, split="train", with_views=True)
    assert [each.text for each in kept.words] == ["Cup, chrome To drink.", "Box", None]
    assert kept.hold_descriptions
    assert kept.views is not None
    wanted = encode_views([20.0, -40.0, None], [15.0, 25.0, None])
    torch.testing.assert_close(kept.views, wanted, equal_nan=True)
    for whole_titles, cup in ((False, "Cup, chrome"), (True, "Cup, Red")):
        text_config = TextConfig(whole_titles=whole_titles, descriptions=False)
        titles = load_photos(tmp_path / "snapshot", resolution=32, split="train", text_config=text_config)
        assert [each.text for each in titles.words] == [cup, "Box", None]
        assert (titles.hold_descriptions, titles.views) == (False, None)


def test_layouts_are_kept_for_a_champion_that_learns_from_them(tmp_path: Path) -> None:
    layout, sketch = condition_file("layout", 0, 3), condition_file("sketch", 0)
    fields = [PHOTO_SHARD.field(name) for name in ("layout", "sketch")]
    photos = write_shard(
        tmp_path / "photos",
        [photo_row("a", layout=layout, sketch=sketch), photo_row("b")],
        schema=pa.unify_schemas([SHARD_SCHEMA, pa.schema(fields)]),
    )
    for with_layouts, wanted in ((True, [(layout, sketch), (None, None)]), (False, [(None, None)] * 2)):
        folder = tmp_path / f"snapshot-{with_layouts}"
        take_snapshot(
            folder,
            store=MemoryStore("shop"),
            index=PHOTO_INDEX.empty_table(),
            photos=str(photos),
            categories=("brick",),
            resolution=32,
            with_layouts=with_layouts,
        )
        drawings = WantedConditions(kind="layout", lines=True, may_lack=True)
        found = read_photos(folder, split="train", drawings=drawings)
        assert [(each.condition, each.lines) for each in found] == wanted
