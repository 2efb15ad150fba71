"""A category that the model does not know is learnt once there are photos enough."""

import pytest

from tests.toygan.retraining.shop import skus
from tests.toygan.uploads.uploads import CATEGORIES, picture
from toygan.storage.memory import MemoryStore
from toygan.uploads.index import known_uploads, photos_so_far, read_tables
from toygan.uploads.indexing import index_uploads
from toygan.uploads.new_categories import NEW_CATEGORY_PHOTOS, learnable, photos_to_learn_from, so_far


def upload_robots(store: MemoryStore, first: int, last: int) -> None:
    """Photos of products that a retraining learns from."""
    for number, sku in list(enumerate(skus("train", last)))[first:]:
        store.put(f"photos/robot/{sku}/front.png", picture(number))


def test_photos_wait_until_there_are_enough_and_are_indexed_then() -> None:
    store = MemoryStore()
    store.put(f"photos/robot/{skus('val', 1)[0]}/front.png", picture(1000))
    upload_robots(store, 0, NEW_CATEGORY_PHOTOS - 1)
    result = index_uploads(store, CATEGORIES)
    assert (result.added, result.quarantined) == (0, NEW_CATEGORY_PHOTOS)
    counts = photos_to_learn_from(known_uploads(store), CATEGORIES)
    assert so_far("robot", counts).startswith(
        "category 'robot' unknown to the model, 19 of 20 photos so far; with 20 the next"
    )
    assert learnable(counts) == frozenset()
    upload_robots(store, NEW_CATEGORY_PHOTOS - 1, NEW_CATEGORY_PHOTOS)
    result = index_uploads(store, CATEGORIES)
    assert result.added == NEW_CATEGORY_PHOTOS + 1  # the held-out one, too
    assert read_tables(store).quarantine.num_rows == 0
    assert learnable(photos_to_learn_from(known_uploads(store), CATEGORIES)) == {"robot"}
    assert not index_uploads(store, CATEGORIES).added


def test_photos_that_are_held_out_or_lie_elsewhere_do_not_count() -> None:
    held_out = [f"photos/robot/{sku}/a.png" for role in ("val", "calibration") for sku in skus(role, 3)]
    elsewhere = ["photos/robot.png", "photos/robot/x/y/z.png", "photos/robot/../a.png"]
    assert photos_to_learn_from([*held_out, *elsewhere], ())["robot"] == 0
    assert photos_to_learn_from([f"photos/brick/{skus('train', 1)[0]}/a.png"], CATEGORIES) == {}


@pytest.mark.parametrize("category", ["积木", "Toys > Cars", "Toys/Cars", ".robot", "r" * 129])
def test_a_category_that_cannot_be_a_folder_needs_photo_shards(category: str) -> None:
    """Its uploads go to the quarantine, so the line must not ask for more of them."""
    store = MemoryStore()
    for number, sku in enumerate(skus("train", NEW_CATEGORY_PHOTOS)):
        store.put(f"photos/{category}/{sku}/front.png", picture(number))
    assert not index_uploads(store, CATEGORIES).added
    [line] = photos_so_far(store, [category])
    assert line == (
        f"category {category!r} unknown to the model, and its photos cannot be uploaded, because the name of "
        "a folder below photos/ must be 1 to 128 letters of A-Z a-z 0-9 . _ - and must not start with a dot; "
        "train a model with `toygan train` from photo shards that have the category"
    )
