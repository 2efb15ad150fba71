from pathlib import Path

import pyarrow as pa

from catalog_schemas.photos import PHOTO_INDEX, PHOTO_SHARD
from tests.models import condition_file
from tests.shards import SHARD_SCHEMA, photo_row, write_shard
from toygan.conditions.text_config import TextConfig
from toygan.data.photo import WantedConditions
from toygan.data.photos import load_photos
from toygan.data.sources import read_photos
from toygan.retraining.snapshot import take_snapshot
from toygan.storage.memory import MemoryStore


def test_what_is_known_of_a_photo_is_kept(tmp_path: Path) -> None:
    """The champion may have learnt from them, and goes on doing so."""
    known = {"title": "Cup, Red", "colour": "Red", "finish": "chrome", "description": "To drink."}
    rows = [
        photo_row("a", **known),
        photo_row("b", title="Box"),
        photo_row("c"),
    ]
    fields = [PHOTO_SHARD.field(name) for name in known]
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
    kept = load_photos(tmp_path / "snapshot", resolution=32, split="train")
    assert [each.text for each in kept.words] == ["Cup, chrome To drink.", "Box", None]
    assert kept.hold_descriptions
    for whole_titles, cup in ((False, "Cup, chrome"), (True, "Cup, Red")):
        text_config = TextConfig(whole_titles=whole_titles, descriptions=False)
        titles = load_photos(tmp_path / "snapshot", resolution=32, split="train", text_config=text_config)
        assert [each.text for each in titles.words] == [cup, "Box", None]
        assert not titles.hold_descriptions


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
