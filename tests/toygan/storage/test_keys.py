"""Keys are made of checked parts, or not at all."""

import hashlib
import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from toygan.errors import BadInput
from toygan.storage import keys
from toygan.storage.store import check_key

IMAGE_ID = "0123456789abcdef0123"
SHA256 = "ab" * 32
VERSION = "0123456789ab"

names = st.from_regex(re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"), fullmatch=True)
anything = st.text(max_size=200) | st.text(alphabet="./\\ -_aZ0\0\n\x1f~é", max_size=140)

# every place in a key that a name from outside can reach
BY_NAME: dict[str, Callable[[str], str]] = {
    "review: run id": lambda name: keys.review_key(name, IMAGE_ID, "png"),
    "metadata: run id": lambda name: keys.part_key(name, 3),
    "rejected rows: run id": keys.rejected_rows_key,
    "report: run id": keys.report_key,
    "manifest: run id": keys.manifest_key,
    "plan: run id": lambda name: keys.plan_key(name, 3),
    "plan manifest: run id": keys.plan_manifest_key,
    "photo: category": lambda name: keys.photo_key(name, "sku", "a.jpg"),
    "photo: sku": lambda name: keys.photo_key("cars", name, "a.jpg"),
    "model: name": lambda name: keys.model_key(name, VERSION, "config.json"),
    "model: file": lambda name: keys.model_key("toys", VERSION, name),
}
by_name = pytest.mark.parametrize("build", BY_NAME.values(), ids=BY_NAME.keys())


@by_name
@given(name=names)
@example(name="-")
@example(name="A" * 128)
@example(name="a..b")
def test_a_good_name_is_one_whole_part_of_the_key(build: Callable[[str], str], name: str) -> None:
    key = build(name)
    assert check_key(key) == key
    parts = re.split(r"[/=]", key)
    assert name in parts or f"{name}.json" in parts
    assert len(parts) == len(re.split(r"[/=]", build("x")))


@by_name
@given(name=anything.filter(lambda text: not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", text)))
@example(name="../../x")
@example(name="..")
@example(name="a/b")
@example(name=".hidden")
@example(name="")
@example(name="A" * 129)
@example(name="naïve")
@example(name="٣")
@example(name="sku\n")
@example(name="run=1")
@example(name="\ud800")
def test_a_hostile_name_never_reaches_a_key(build: Callable[[str], str], name: str) -> None:
    with pytest.raises(BadInput):
        build(name)


@given(category=anything, sku=anything)
@example(category="积木", sku="货号 1")
@example(category="Toys > Building Toys", sku="..")
@example(category="../../x", sku=".hidden")
@example(category="\ud800", sku="")
def test_any_category_and_sku_are_two_safe_parts_of_a_key(category: str, sku: str) -> None:
    key = keys.image_key(category, sku, IMAGE_ID, "webp")
    assert check_key(key) == key
    images, *folders, _ = key.split("/")
    assert images == "images"
    assert len(folders) == 2
    for text, folder in zip((category, sku), folders, strict=True):
        is_plain = bool(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", text))
        assert folder == text if is_plain else re.fullmatch(r"([a-z0-9-]+-)?[0-9a-f]{8}", folder)


def test_names_in_any_language_can_be_read_in_a_key() -> None:
    digest = hashlib.sha256(b"Toys > Cars").hexdigest()[:8]
    assert keys.slug_of("Toys > Cars") == f"toys-cars-{digest}"
    assert keys.slug_of("积木").startswith("ji-mu-")
    assert keys.slug_of("积木") != keys.slug_of("积沐")
    assert re.fullmatch("[0-9a-f]{8}", keys.slug_of("☃"))


@given(file=anything)
@example(file="my photo (1).JPG")
@example(file="../x.jpg")
@example(file=".DS_Store")
@example(file="a" * 256)
def test_a_photo_keeps_any_file_name_that_stays_in_its_folder(file: str) -> None:
    try:
        key = keys.photo_key("cars", "sku-1", file)
    except BadInput:
        assert not re.fullmatch(r"[A-Za-z0-9_ ()-][A-Za-z0-9._ ()-]{0,254}", file)
    else:
        assert key == f"photos/cars/sku-1/{file}"
        assert check_key(key) == key
        assert not file.startswith(".")
        assert "/" not in file


def test_the_layout_is_the_documented_one() -> None:
    assert keys.image_key("cars", "A.1", IMAGE_ID, "webp") == f"images/cars/A.1/{IMAGE_ID}.webp"
    assert keys.review_key("night-1", IMAGE_ID, "jpg") == f"review/run=night-1/{IMAGE_ID}.jpg"
    assert keys.metadata_prefix("night-1") == "metadata/run=night-1/"
    assert keys.part_key("night-1", 7) == "metadata/run=night-1/part-00007.parquet"
    assert keys.rejected_rows_key("night-1") == "metadata/run=night-1/rejected_rows.parquet"
    assert keys.report_key("night-1") == "reports/night-1/index.html"
    assert keys.manifest_key("night-1") == "runs/night-1.json"
    assert keys.tmp_prefix("night-1") == ".tmp/night-1/"
    assert keys.plan_key("night-1", 12) == ".tmp/night-1/plan/00012.parquet"
    assert keys.plan_manifest_key("night-1") == ".tmp/night-1/plan.json"
    assert keys.condition_key(SHA256) == f"conditions/{SHA256}"
    assert keys.photo_key("cars", "A.1", "front.jpg") == "photos/cars/A.1/front.jpg"
    assert keys.model_key("toys", VERSION, "config.json") == f"models/toys/{VERSION}/config.json"
    assert (keys.ALIASES_KEY, keys.CURRENT_KEY) == ("models/aliases.json", "current.parquet")


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: keys.image_key("cars", "sku", IMAGE_ID.upper(), "webp"), "image id"),
        (lambda: keys.image_key("cars", "sku", IMAGE_ID + "0", "webp"), "image id"),
        (lambda: keys.image_key("cars", "sku", IMAGE_ID, "gif"), "format"),
        (lambda: keys.review_key("", IMAGE_ID, "webp"), "run id"),
        (lambda: keys.part_key("night-1", -1), "shard"),
        (lambda: keys.plan_key("night-1", 100_000), "shard"),
        (lambda: keys.condition_key(SHA256[:-1]), "sha256"),
        (lambda: keys.condition_key(SHA256.upper()), "sha256"),
        (lambda: keys.model_key("toys", "latest", "config.json"), "model version"),
        (lambda: keys.model_key("toys", VERSION, "../config.json"), "model file"),
    ],
)
def test_the_bad_part_is_named(build: Callable[[], str], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        build()


def test_the_parts_of_a_run_are_listed_in_the_order_of_their_shards() -> None:
    shards = [0, 9, 10, 99, 100, 99_999]
    assert sorted(keys.part_key("r", shard) for shard in shards) == [keys.part_key("r", s) for s in shards]


def test_only_pictures_and_plan_shards_are_referenced() -> None:
    referenced = [
        keys.image_key("cars", "sku", IMAGE_ID, "webp"),
        keys.review_key("night-1", IMAGE_ID, "webp"),
        keys.plan_key("night-1", 0),
    ]
    relied_on = [
        *(keys.part_key("r", 0), keys.rejected_rows_key("r"), keys.report_key("r"), keys.manifest_key("r")),
        *(keys.plan_manifest_key("plan"), keys.CURRENT_KEY, keys.ALIASES_KEY, keys.condition_key(SHA256)),
        *(keys.photo_key("cars", "plan", "a.jpg"), keys.model_key("toys", VERSION, "config.json")),
    ]
    assert all(keys.is_referenced(key) for key in referenced)
    assert not any(keys.is_referenced(key) for key in relied_on)
