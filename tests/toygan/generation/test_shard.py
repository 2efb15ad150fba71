"""One shard: what is drawn, decided, stored and said of it."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pytest

from catalog_schemas.images import FILE_COLUMNS, IMAGES
from catalog_schemas.validation import conform
from tests.models import (
    ANYTHING,
    BATCH,
    CATEGORIES,
    COLOURS,
    products,
    tiny_model,
    tiny_with_layouts,
)
from tests.toygan.generation.shard_runs import Rows, by_slot, compute, with_limits
from tests.toygan.generation.shard_runs import engine as engine
from tests.toygan.generation.shard_runs import with_model as with_model
from tests.toygan.generation.slots import slot, slots
from toygan.approval.checks import REASONS
from toygan.artifact.layout_bank import KnownChoice, LayoutBank
from toygan.artifact.model import Model
from toygan.generation.engine import Engine
from toygan.images import ImageFormat, encode, read_digital_source_type
from toygan.seeds import image_id, image_seed
from toygan.storage.keys import image_key, review_key
from toygan.xmp import DIGITAL_SOURCE_TYPE


def draw_one(engine: Engine, row: dict[str, Any]) -> Any:
    """The pixels of a row's picture, drawn by itself in a batch of the same shape."""
    wanted = products(row["category"], [json.loads(row["conditions"])["colour_hex"]])
    return engine.model.generate([row["seed"]], wanted, row["batch_size"]).pixels[0]


def test_two_runs_make_the_same_rows_and_bytes(engine: Engine) -> None:
    rows, objects = compute(engine, slots(50))
    again, objects_again = compute(engine, slots(50))
    assert rows == again
    assert objects == objects_again
    assert len({row["decision"] for row in rows}) == 3


def test_shards_that_run_at_the_same_time_do_not_change_each_other(engine: Engine) -> None:
    alone = [compute(engine, slots(30, category=name)) for name in ("brick", "car", "wheel")]
    with ThreadPoolExecutor(3) as pool:
        together = list(
            pool.map(lambda name: compute(engine, slots(30, category=name)), ("brick", "car", "wheel"))
        )
    assert together == alone


def test_batches_have_one_of_the_shapes_and_are_full_on_a_cpu(engine: Engine) -> None:
    began_s = time.monotonic()
    rows, _ = compute(engine, [slot(number, category=CATEGORIES[number % 3]) for number in range(50)])
    generated = [
        span.pictures for span in engine.worker_pool.timeline.since(began_s).spans if span.stage == "generate"
    ]
    assert sum(generated) == len(rows)
    assert {row["batch_size"] for row in rows} == set(generated) <= set(engine.shapes)
    assert generated.count(BATCH) >= 6  # the small last ones may end before large ones


def test_a_shard_of_several_categories_decides_by_each_ones_scale(with_model: Any) -> None:
    model = with_limits(tiny_model().load(), threshold=0.0)
    known = model.require_calibration()
    categories = {**known.categories, "car": replace(known.of("car"), threshold=1.0)}
    calibration = replace(known, categories=MappingProxyType(categories))
    wanted = [slot(number, category=("brick", "car")[number % 2]) for number in range(6)]
    rows, _ = compute(with_model(replace(model, calibration=calibration)), wanted)
    for row in rows:
        assert row["threshold"] == (1.0 if row["category"] == "car" else 0.0)
        assert row["p_real"] == known.of(row["category"]).p_real(row["logit"])
        assert ("score_below_threshold" in row["reasons"]) == (row["category"] == "car")


def test_every_row_keeps_the_contract_and_says_why(engine: Engine) -> None:
    rows, objects = compute(engine, slots(60))
    table = pa.Table.from_pylist([{**row, "generated_at": 0} for row in rows], schema=IMAGES)
    assert conform(table, IMAGES, "the rows").num_rows == len(rows)
    for row in rows:
        assert all((row[name] is None) == (row["decision"] == "rejected") for name in FILE_COLUMNS)
        assert bool(row["reasons"]) == (row["decision"] != "approved")
        assert set(row["reasons"]) <= set(REASONS)
        assert ("score_below_threshold" in row["reasons"]) == (row["p_real"] < row["threshold"])
        assert row["p_real"] == engine.model.require_calibration().of("brick").p_real(row["logit"])
        colour = COLOURS[int(row["sku"][4:]) % 6]
        assert row["conditions"] == (
            f'{{"category":"brick","colour_hex":"{colour}","colour_source":"colour_hex"}}'
        )
        assert (row["model_name"], row["model_family"]) == ("tiny", "dcgan")
        assert (row["batch_size"] in engine.shapes, row["truncation"]) == (True, 1.0)
        assert row["digital_source_type"] == DIGITAL_SOURCE_TYPE
    assert {row["image_uri"] for row in rows} - {None} == objects.keys()
    assert len({row["image_id"] for row in rows}) == len(rows)


def test_every_slot_ends_approved_or_with_one_candidate_for_review(engine: Engine) -> None:
    rows, _ = compute(engine, slots(60))
    of = by_slot(rows)
    assert len(of) == 60
    lengths = set()
    for tried in of.values():
        assert [row["attempt"] for row in tried] == list(range(len(tried)))
        decisions = [row["decision"] for row in tried]
        if decisions[-1] == "approved":
            assert decisions[:-1] == ["rejected"] * (len(tried) - 1)
        else:
            assert len(tried) == 4
            assert sorted(decisions) == ["rejected"] * 3 + ["review"]
        lengths.add(len(tried))
    assert lengths == {1, 2, 3, 4}


@pytest.mark.parametrize("image_format", ["webp", "jpg", "png"])
def test_a_stored_picture_is_the_one_of_its_row(engine: Engine, image_format: ImageFormat) -> None:
    # With fewer slots, the last bits of a CPU decide whether any is left for review.
    rows, objects = compute(engine, slots(120), image_format=image_format)
    kept = [row for row in rows if row["decision"] != "rejected"]
    assert {row["decision"] for row in kept} == {"approved", "review"}
    for row in kept:
        file = objects[row["image_uri"]]
        approved = image_key(row["category"], row["sku"], row["image_id"], image_format)
        review = review_key("run-1", row["image_id"], image_format)
        assert row["image_uri"] == (approved if row["decision"] == "approved" else review)
        assert row["sha256"] == sha256(file).hexdigest()
        assert (row["bytes"], row["format"]) == (len(file), image_format)
        assert (row["width"], row["height"]) == (32, 32)
        assert read_digital_source_type(file) == DIGITAL_SOURCE_TYPE
        assert file == encode(draw_one(engine, row), image_format)


def test_attempts_go_on_from_those_of_earlier_runs(engine: Engine) -> None:
    wanted = [slot(number, first_attempt=3 * number) for number in range(20)]
    rows, _ = compute(engine, wanted)
    model = engine.model
    for each in wanted:
        tried = by_slot(rows)[each.sku, 0]
        numbers = [row["attempt"] for row in tried]
        assert numbers == list(range(each.first_attempt, each.first_attempt + len(tried)))
        for row in tried:
            attempt = row["attempt"]
            assert row["seed"] == image_seed(each.sku, 0, attempt, "tiny", model.version)
            assert row["image_id"] == image_id(
                each.sku, 0, attempt, "tiny", model.version, each.row_fingerprint
            )


def test_the_best_candidate_is_for_review(engine: Engine, with_model: Any) -> None:
    rows, objects = compute(with_model(with_limits(engine.model, threshold=1.0)), slots(20))
    assert len(rows) == 80
    for tried in by_slot(rows).values():
        assert all(row["reasons"] == ["score_below_threshold"] for row in tried)
        (review,) = [row for row in tried if row["decision"] == "review"]
        assert review["p_real"] == max(row["p_real"] for row in tried)
    assert len(objects) == 20
    assert all(key.startswith("review/run=run-1/") for key in objects)


def test_a_check_that_fails_is_named(engine: Engine, with_model: Any) -> None:
    strict = replace(ANYTHING, contrast_min=1000.0, fill_ratio_min=2.0, fill_ratio_max=3.0)
    rows, _ = compute(with_model(with_limits(engine.model, limits=strict, threshold=0.0)), slots(9))
    assert {tuple(row["reasons"]) for row in rows} == {("blank", "fill_ratio_low")}
    rows, _ = compute(
        with_model(with_limits(engine.model, limits=replace(ANYTHING, background_white_min=2.0))), slots(9)
    )
    assert all("background_not_white" in row["reasons"] for row in rows)
    far_off = replace(ANYTHING, colour_delta_e_max=-1.0)
    rows, _ = compute(
        with_model(with_limits(engine.model, limits=far_off, threshold=0.0)),
        [slot(0), slot(1, colour_hex=None)],
    )
    of = by_slot(rows)
    assert all(row["reasons"] == ["colour_off"] for row in of["sku-0000", 0])
    assert [row["reasons"] for row in of["sku-0001", 0]] == [["colour_unknown"]]
    assert of["sku-0001", 0][0]["colour_delta_e"] is None


@pytest.fixture(scope="module")
def with_titles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """Has the layouts of a horse and a wolf; whatever passes the checks is approved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield with_limits(tiny_with_layouts(titles=("Horse", "Wolf")).load(), threshold=0.0)


def similarities(rows: Rows) -> set[float]:
    return {json.loads(row["conditions"])["layout_similarity"] for row in rows}


def test_a_picture_with_another_products_layout_goes_to_review(with_titles: Model, with_model: Any) -> None:
    """As is a text in a language that the model does not read; in which colour does not matter."""
    wanted = [slot(0, title="Horse"), slot(1, title="Wolf, Blue", colour="Blue"), slot(2, title="Rabbit")]
    wanted += [slot(3, title="马", language="zh")]
    rows, objects = compute(with_model(with_titles), wanted)
    tried = by_slot(rows)
    for number in range(2):
        (row,) = tried[f"sku-{number:04d}", 0]
        assert (row["decision"], row["reasons"], similarities([row])) == ("approved", [], {1.0})
    for number in range(2, 4):
        guesses = tried[f"sku-{number:04d}", 0]
        (guess,) = guesses  # no other could be approved
        assert (guess["decision"], guess["reasons"]) == ("review", ["shape_guessed"])
        assert guess["image_uri"] in objects
    assert similarities(tried["sku-0003", 0]) == {0.0}
    assert max(similarities(tried["sku-0002", 0])) < 0.9


def test_a_picture_of_no_known_colour_is_for_a_person_to_look_at(with_model: Any) -> None:
    limits = replace(ANYTHING, colour_delta_e_max=200.0)
    checked = with_limits(tiny_model().load(), limits=limits, threshold=0.0)
    unknown = slot(0, colour=None, colour_hex=None, colour_source=None)
    named = slot(1, colour="Red", colour_hex="#B40000", colour_source="title")
    tried = by_slot(compute(with_model(checked), [unknown, named])[0])
    (row,) = tried["sku-0000", 0]  # no other could be approved
    assert (row["decision"], row["reasons"]) == ("review", ["colour_unknown"])
    assert row["conditions"] == '{"category":"brick","colour_hex":null,"colour_source":null}'
    row = tried["sku-0001", 0][0]
    assert "colour_unknown" not in row["reasons"]
    conditions = json.loads(row["conditions"])
    assert (conditions["colour_source"], conditions["colour_name"]) == ("title", "Red")


@pytest.mark.parametrize(("similarity", "reasons"), [(0.998, ["shape_guessed"]), (0.999, []), (1.0, [])])
def test_a_shape_is_a_guess_below_the_limit(
    with_titles: Model,
    with_model: Any,
    monkeypatch: pytest.MonkeyPatch,
    similarity: float,
    reasons: list[str],
) -> None:
    choose = LayoutBank.choose

    def alike(*args: Any) -> KnownChoice:
        return choose(*args)._replace(similarity=similarity)

    monkeypatch.setattr(LayoutBank, "choose", alike)
    rows, _ = compute(with_model(with_titles), [slot(0, title="Horse")])
    assert [row["reasons"] for row in rows] == [reasons] * (4 if reasons else 1)
    assert similarities(rows) == {similarity}


def test_a_product_that_may_get_its_own_layout_is_tried_again(with_titles: Model, with_model: Any) -> None:
    """Which layout it gets is a matter of chance: only where no attempt gets its own is one enough."""
    known = with_titles.layout_bank
    assert known is not None
    engine = with_model(replace(with_titles, layout_bank=replace(known, temperature=10.0)))
    tried = by_slot(compute(engine, [slot(number, title="Horse") for number in range(40)])[0])
    lengths = {len(rows) for rows in tried.values()}
    assert lengths == {1, 2, 3, 4}
    for rows in tried.values():
        found = [json.loads(row["conditions"])["layout_similarity"] for row in rows]
        is_own = [each == 1.0 for each in found]
        if rows[-1]["decision"] == "approved":
            assert is_own == [False] * (len(rows) - 1) + [True]
        else:
            assert (len(rows), is_own) == (1, [False])
        assert all(("shape_guessed" in row["reasons"]) != own for row, own in zip(rows, is_own, strict=True))
