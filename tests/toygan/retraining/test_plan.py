"""How a retraining begins, and when one that died is taken up."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.enhancers import tiny_enhancer
from tests.models import CATEGORIES, TinyFiles, tiny_model
from tests.shards import photo, photo_row, write_shard
from tests.toygan.retraining.shop import (
    ENOUGH,
    begun,
    champion_of,
    request,
    skus,
    upload_enough,
    upload_new_category,
)
from toygan.artifact.enhancer import enhancer_files
from toygan.conditions.colour_names import NO_COLOUR_NAMES
from toygan.conditions.main_colour import MainColours
from toygan.conditions.text_encoder_files import DEFAULT_TEXT_ENCODER
from toygan.data.photo_index import read_index
from toygan.data.photos import load_photos
from toygan.errors import (
    BadInput,
    DiskFull,
    ModelError,
    Retryable,
    RunFailed,
    StoreConfigError,
    StoreUnavailable,
)
from toygan.images import encode
from toygan.registry.aliases import Alias, ModelRef, change_alias
from toygan.registry.models import CHAMPION, add_model
from toygan.registry.promotion import promote
from toygan.retraining.folder import store_id, working_folder
from toygan.retraining.plan import NothingToDo, begin, give_up, hopeless_if_unusable
from toygan.retraining.request import RetrainRequest
from toygan.storage.memory import MemoryStore, named_memory_store
from toygan.uploads.indexing import index_uploads
from toygan.uploads.retrained import read_retrained, record_retraining


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    """A store with a champion and uploads enough."""
    store = named_memory_store(f"shop-{tmp_path.name}")
    champion_of(store, tmp_path)
    upload_enough(store)
    return store


def why_not(store: MemoryStore, folder: Path, **changes: object) -> str:
    asked = request(store, folder, **changes)
    with working_folder(asked.work, store) as place:
        found = begin(asked, store, place)
    assert isinstance(found, NothingToDo)
    return found.reason


def test_the_snapshot_holds_all_uploads_in_their_roles(store: MemoryStore, tmp_path: Path) -> None:
    attempt = begun(store, tmp_path / "work")
    assert attempt.plan.contents.uploads == 33
    assert attempt.plan.contents.by_category == {
        name: {"train": 5, "calibration": 1, "val": 5} for name in CATEGORIES
    }
    assert attempt.index().equals(read_index(store))
    for split, count in (("train", 18), ("val", 15)):
        photos = load_photos(attempt.photos, resolution=32, split=split)
        assert (len(photos), photos.categories) == (count, CATEGORIES)


def test_the_snapshot_has_the_resolution_of_the_final_pictures(tmp_path: Path) -> None:
    """A photo of thin stripes keeps them at 64 pixels. At the generator's 32 pixels it would be grey."""
    store = MemoryStore()
    tiny = tiny_model()
    files = TinyFiles(name="tiny", files={**tiny.files, **enhancer_files(tiny_enhancer())})
    promote(store, "tiny", add_model(store, files.write(tmp_path / "tiny"), "tiny"))
    upload_enough(store)
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    sku = skus("val", 6)[-1]
    store.put(f"photos/car/{sku}/front.png", encode(stripes, "png"))
    photos = begun(store, tmp_path / "work").photos
    found = load_photos(photos, resolution=64, split="val", keep_sku=lambda each: each == sku)
    assert found.images[0].float().std() > 100


def test_uploads_have_the_main_colours_that_a_night_finds(store: MemoryStore, tmp_path: Path) -> None:
    named, titled, given = skus("train", 3)
    rows = [f"{named},Fire engine crimson,crimson,", f"{titled},Racing car red,,", f"{given},Boat,,#b40000"]
    store.put("photos/products.csv", "\n".join(["sku,title,colour,colour_hex", *rows]).encode())
    night = MainColours(NO_COLOUR_NAMES)
    wanted = {
        named: night.find(title="Fire engine crimson", colour="crimson", colour_hex=None, finish=None).hex,
        titled: night.find(title="Racing car red", colour=None, colour_hex=None, finish=None).hex,
        given: "#B40000",
    }
    assert None not in wanted.values()
    index_uploads(store)
    for source in (begun(store, tmp_path / "work").photos, store.uri):
        photos = load_photos(source, resolution=32, split="train")
        found = dict(zip(photos.skus, photos.colour_hexes, strict=True))
        assert {sku: found[sku] for sku in wanted} == wanted
        texts = dict(zip(photos.skus, (each.shape_text or "" for each in photos.words), strict=True))
        assert "red" not in texts[titled]


def test_a_warning_names_categories_that_cannot_be_measured(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A decision needs ten photos of val in every category. The first has them."""
    store = MemoryStore()
    champion_of(store, tmp_path)
    first, *others = CATEGORIES
    upload_enough(store)
    upload_new_category(store, first, {"val": 5})
    begun(store, tmp_path / "work")
    warning = next(each for each in caplog.messages if "cannot be promoted" in each)
    assert all(f"{name} (5)" in warning for name in others)
    assert f"{first} (" not in warning


@pytest.mark.parametrize("encoder", [DEFAULT_TEXT_ENCODER, None])
def test_titles_in_unknown_languages_are_left_out(encoder: str | None, tmp_path: Path) -> None:
    """The bundled encoder knows English. A model without texts keeps all titles, for what comes after it."""
    store = MemoryStore()
    files = tiny_model(text_encoder=encoder).write(tmp_path / "tiny")
    promote(store, "tiny", add_model(store, files, "tiny"))
    upload_enough(store)
    english, chinese, unsaid = skus("train", 3)
    rows = [f"{english},Racing boat,en-GB", f"{chinese},帆船,zh", f"{unsaid},Sailing boat,"]
    store.put("photos/products.csv", "\n".join(["sku,title,language", *rows]).encode())
    index_uploads(store)
    table = pq.read_table(begun(store, tmp_path / "work").photos, columns=["sku", "title"])
    titles = {row["sku"]: row["title"] for row in table.to_pylist()}
    assert titles[english] == "Racing boat"
    assert titles[chinese] == (None if encoder else "帆船")
    assert titles[unsaid] == "Sailing boat"


def test_the_snapshot_stays_whatever_is_uploaded_or_deleted(store: MemoryStore, tmp_path: Path) -> None:
    before = load_photos(begun(store, tmp_path / "work").photos, resolution=32, split="train").sha256
    for info in list(store.list("photos/"))[::2]:
        store.delete(info.key)
    store.put(f"photos/car/{skus('train', 9)[-1]}/front.jpg", photo("#102030"))
    again = begun(store, tmp_path / "work")
    assert load_photos(again.photos, resolution=32, split="train").sha256 == before
    assert again.plan.contents.uploads == 33


@pytest.mark.parametrize("change", ["champion", "max_images", "photos"])
def test_a_retraining_for_something_else_is_not_taken_up(
    store: MemoryStore, tmp_path: Path, change: str
) -> None:
    first = begun(store, tmp_path / "work")
    changes: dict[str, object] = {}
    if change == "champion":
        champion_of(store, tmp_path, seed=1)
    elif change == "max_images":
        changes = {"max_images": 128}
    else:
        rows = [photo_row("other", "car")]
        changes = {"photos": str(write_shard(tmp_path / "others", rows))}
    (first.folder / "left-behind").touch()
    second = begun(store, tmp_path / "work", **changes)
    assert not (second.folder / "left-behind").exists()
    assert second.plan != first.plan


def test_an_outcome_is_published_whatever_has_changed(store: MemoryStore, tmp_path: Path) -> None:
    first = begun(store, tmp_path / "work")
    first.outcome.mkdir()
    champion_of(store, tmp_path, seed=1)
    assert begun(store, tmp_path / "work", max_images=7) == first


@pytest.mark.parametrize("damage", ["missing", "torn", "of another kind"])
def test_what_died_before_its_commit_is_begun_anew(store: MemoryStore, tmp_path: Path, damage: str) -> None:
    first = begun(store, tmp_path / "work")
    plan = first.folder / "plan.json"
    (first.folder / "left-behind").touch()
    if damage == "missing":
        plan.unlink()
    elif damage == "torn":
        plan.write_bytes(plan.read_bytes()[:-9])
    else:
        plan.write_text(json.dumps({"contents": []}))
    second = begun(store, tmp_path / "work")
    assert second == first
    assert not (second.folder / "left-behind").exists()


def test_what_is_given_up_is_gone(store: MemoryStore, tmp_path: Path) -> None:
    attempt = begun(store, tmp_path / "work")
    give_up(attempt.folder.parent)
    assert not attempt.folder.exists()


def test_a_champion_that_is_not_calibrated_is_not_trained_on(tmp_path: Path) -> None:
    store = MemoryStore()
    files = tiny_model().with_files(calibration=None)
    version = add_model(store, files.write(tmp_path / "tiny"), "tiny")
    # `toygan models promote` refuses it. A store may have it from an earlier version.
    champion = Alias(now=ModelRef(name="tiny", version=version))
    change_alias(store, CHAMPION, lambda old: champion)
    upload_enough(store)
    with pytest.raises(ModelError, match=f"champion tiny@{files.version} is not calibrated; run `toygan cal"):
        begun(store, tmp_path / "work")


def test_nothing_new_is_nothing_to_do(store: MemoryStore, tmp_path: Path) -> None:
    record_retraining(store, index_uploads(store).index, "night-0")
    assert why_not(store, tmp_path / "work") == "every photo in the index has been seen by a retraining"


def test_photos_that_nobody_has_indexed_are_found(store: MemoryStore, tmp_path: Path) -> None:
    """As after an event that a relay of the bucket sent, before watch-photos has looked."""
    record_retraining(store, index_uploads(store).index, "night-0")
    store.put(f"photos/car/{skus('train', 9)[-1]}/front.jpg", photo("#102030"))
    assert begun(store, tmp_path / "work").plan.contents.uploads == 34


def test_too_few_photos_count_as_seen(tmp_path: Path) -> None:
    store = MemoryStore()
    champion_of(store, tmp_path)
    store.put(f"photos/car/{skus('train', 1)[0]}/front.jpg", photo("#102030"))
    reason = why_not(store, tmp_path / "work")
    assert reason.startswith(
        "the photos are too few: 1 of the champion's categories to learn from, but 10 are needed; "
        "0 to calibrate with, but 1 are needed; 0 of the champion's categories to measure with, but 10 are "
        "needed; none for training of brick, wheel, which the model would forget. Upload photos of more "
        "products of the champion's categories brick, car, wheel (a tenth "
    )
    assert "toygan train" not in reason
    record = read_retrained(store)
    assert record is not None
    assert (record.photos, record.run_id) == (1, "night-1")
    assert not list((tmp_path / "work" / store_id(store)).glob("*/"))


def test_a_category_that_would_be_forgotten_stops_it(tmp_path: Path) -> None:
    store = MemoryStore()
    champion_of(store, tmp_path)
    upload_enough(store, ("brick", "car"))
    assert "none for training of wheel" in why_not(store, tmp_path / "work")


ROBOTS = {"train": 20, "calibration": 2, "val": 12}


def test_photos_of_a_new_category_do_not_count_for_the_comparison(tmp_path: Path) -> None:
    """The models are compared on the champion's categories, which have three photos to measure with."""
    store = MemoryStore()
    champion_of(store, tmp_path)
    upload_enough(store, wanted={**ENOUGH, "val": 1})
    upload_new_category(store, "robot", ROBOTS)
    assert why_not(store, tmp_path / "work").startswith(
        "the photos are too few: 3 of the champion's categories to measure with, but 10 are needed. "
        "Upload photos of more products of the champion's categories brick, car, wheel (a tenth "
    )
    record = read_retrained(store)
    assert record is not None
    assert record.photos == 21 + 34
    upload_enough(store)
    contents = begun(store, tmp_path / "work").plan.contents
    assert contents.by_category["robot"] == ROBOTS
    assert contents.uploads == 33 + 34


def test_photos_of_new_categories_alone_are_for_a_model_of_their_own(tmp_path: Path) -> None:
    store = MemoryStore()
    champion_of(store, tmp_path)
    upload_new_category(store, "robot", ROBOTS)
    reason = why_not(store, tmp_path / "work")
    assert "none for training of brick, car, wheel, which the model would forget" in reason
    assert reason.endswith(", or train a model of robot alone with `toygan train`")


def test_products_of_a_new_category_do_not_count_for_their_other_category(tmp_path: Path) -> None:
    store = MemoryStore()
    champion_of(store, tmp_path)
    upload_enough(store)
    upload_new_category(store, "robot", ROBOTS, first=0)
    reason = why_not(store, tmp_path / "work")
    assert "0 of the champion's categories to measure with" in reason
    assert "; 33 do not count, because their products are in robot, too. Upload" in reason


def test_only_photos_that_cannot_be_used_make_an_attempt_hopeless() -> None:
    with pytest.raises(RunFailed, match="3 photos are too few"), hopeless_if_unusable():
        raise BadInput("3 photos are too few")
    for passing in (ModelError, StoreConfigError, StoreUnavailable, DiskFull, OSError):
        with pytest.raises(passing), hopeless_if_unusable():
            raise passing("a retry may help")


def test_other_photos_are_learnt_from_beside_the_uploads(tmp_path: Path) -> None:
    store = MemoryStore()
    champion_of(store, tmp_path)
    upload_enough(store, ("brick", "car"))
    shared, *own = skus("train", 3)
    rows = [
        photo_row(shared, "brick", split="val"),  # so its uploads are held out, too
        *(photo_row(sku, "wheel") for sku in own),
        photo_row("broken", "wheel", photo=b"no picture"),
        photo_row("unknown", "castle"),
    ]
    others = str(write_shard(tmp_path / "others", rows))
    contents = begun(store, tmp_path / "work", photos=others).plan.contents
    assert (contents.uploads, contents.others, contents.broken) == (22, 3, 1)
    assert contents.left_out == {"castle": 1}
    assert contents.by_category["brick"] == {"train": 4, "calibration": 1, "val": 7}
    assert contents.by_category["car"] == {"train": 4, "calibration": 1, "val": 6}
    assert contents.by_category["wheel"] == {"train": 2, "calibration": 0, "val": 0}


def test_one_process_at_a_time(store: MemoryStore, tmp_path: Path) -> None:
    with (
        working_folder(tmp_path, store),
        pytest.raises(Retryable, match=f"another retraining of {store.uri} is running"),
        working_folder(tmp_path, store),
    ):
        pass
    with working_folder(tmp_path, store), working_folder(tmp_path, MemoryStore("another")):
        pass


@pytest.mark.parametrize(("name", "value"), [("max_images", 0), ("pictures", 9)])
def test_a_request_is_checked(name: str, value: int, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=name):
        RetrainRequest(store="shop", work=tmp_path, run_id="night", **{name: value})  # type: ignore[arg-type]
